"""What the daemon says and does on the system bus, and beside it.

branch   a part of the tree of objects, with the functions that answer for it.

announcer       signals: what came, went or changed since the last look
bus             connection and name on the system bus; without a bus the daemon serves all the same
calls           a method call and how it can fail, on the bus and on the control socket alike
client          the daemon as another process sees it; asks by over_bus or over_socket
control_socket  the same objects as lines of JSON on a Unix socket
devices         the branch /org/kernel/TCMURunner2: devices, and what can be asked of them
external        handlers that other processes register
interface       interfaces as tables, and their introspection
names           names of the contract with targetcli and external handlers
over_bus        method calls over the bus; the one client module that needs the library
over_socket     method calls over the control socket
presence        both branches, their signals and the bus, for the daemon
service         the branch /org/kernel/TCMUService1: what targetcli asks
standard        the interfaces that every D-Bus service has
tree            all objects in branches: a method call in, its answer out
variants        tables as a{sv}, and back
wire            devices and events as D-Bus says them, and back
"""
