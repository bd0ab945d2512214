"""The interfaces that every D-Bus service has (D-Bus specification, "Standard Interfaces")."""

from __future__ import annotations

from tcmu_runner.dbus.interface import Interface, Method, Signal

_ANY = "org.freedesktop.DBus."

INTROSPECTABLE = Interface(
    _ANY + "Introspectable", methods=(Method("Introspect", gives=(("xml_data", "s"),)),)
)
PROPERTIES = Interface(
    _ANY + "Properties",
    methods=(
        Method("Get", takes=(("interface_name", "s"), ("property_name", "s")), gives=(("value", "v"),)),
        Method("GetAll", takes=(("interface_name", "s"),), gives=(("properties", "a{sv}"),)),
        Method("Set", takes=(("interface_name", "s"), ("property_name", "s"), ("value", "v"))),
    ),
    signals=(
        Signal(
            "PropertiesChanged",
            (("interface_name", "s"), ("changed_properties", "a{sv}"), ("invalidated_properties", "as")),
        ),
    ),
)
MANAGER = Interface(
    _ANY + "ObjectManager",
    methods=(Method("GetManagedObjects", gives=(("objects", "a{oa{sa{sv}}}"),)),),
    signals=(
        Signal("InterfacesAdded", (("object", "o"), ("interfaces", "a{sa{sv}}"))),
        Signal("InterfacesRemoved", (("object", "o"), ("interfaces", "as"))),
    ),
)
