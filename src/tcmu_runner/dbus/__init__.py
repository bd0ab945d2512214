"""What the daemon says and does on the system bus.

interface   what an object offers: methods, properties, signals, as a table; the introspection is made of it.
            The functions behind one object's interface are with it: `Served`.
branch      a part of the tree of objects: the contract with targetcli is one (`service`), what can be seen of
            devices and asked of them another one (`devices`).
tree        all branches; answers a message with a message.
bus         the connection, the name on it, and what happens when there is no bus.
client      the other side of `devices`, for our commands.

Only `bus` and `client` have to do with sockets.
"""
