"""The command line.

arguments      the options of all commands; a command's module is imported when it runs
check          `check`: a config string, a settings file, a handler's contract
control        `resize`, `drain` and `restart`
create         `create`: makes a LUN and exports it; undoes all if a step fails
daemon_client  calls the running daemon
delete         `delete`: removes a LUN and its exports, not its data
diagnosis      checks what can keep LUNs from working; names the commands that repair it
doctor         `doctor`: prints what `diagnosis` finds
exports        how LIO exports LUNs, as configfs shows it
faults         `faults`: the rules of the filter `error`, changed while a LUN is in use
finding        one finding of `doctor`, and the machine that is examined
hints          turns remedies in error texts into options of the command line
iscsi          access of initiators to a LUN, for `create`
lio            makes and removes objects in LIO, by rtslib-fb
main           the program: without a subcommand it is the daemon
manual         the manual page and shell completion, from the arguments
optional       libraries that only some commands need
output         tables for people, JSON for programs
overlay        `overlay`: inspects, commits or empties an overlay of the filter `cow`
release        `release`: ends kernel waits for a daemon that has died
serve          the daemon, as the command line starts it
show           `list`, `show` and `handlers`
top            `top`: rates of all LUNs, live
try_           `try`: a LUN of one handler over iSCSI, without kernel module or root
"""
