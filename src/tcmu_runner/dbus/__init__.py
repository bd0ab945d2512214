"""The daemon's objects on the system bus and on the control socket, and the clients for both.

branch: a part of the tree of objects, with the functions that answer calls on it.

announcer       signals: what appeared, vanished or changed since the last look
bus             connection and name on the system bus; without a bus the daemon serves nevertheless
calls           a method call and its errors, the same on the bus and on the control socket
client          Client, for other processes; uses over_bus or over_socket
control_socket  the same objects as lines of JSON on a Unix socket
devices         the branch /org/kernel/TCMURunner2: devices, and actions on them
external        handlers that other processes register
interface       interfaces as tables, and their introspection
names           names of the contract with targetcli and external handlers
over_bus        method calls over the bus; the one client module that needs the library
over_socket     method calls over the control socket
presence        both branches, their signals and the bus, for the daemon
service         the branch /org/kernel/TCMUService1, which targetcli uses
standard        the interfaces that every D-Bus service has
tree            all objects in branches: a method call in, its answer out
variants        tables as a{sv}, and back
wire            devices and events as D-Bus values, and back
"""
