"""The command line.

arguments      the options of all commands; what carries a command out is imported when it is wanted
check          `check`: a config string, a settings file, a handler's contract
control        `resize`, `drain` and `restart`
create         `create`: a LUN from nothing to its initiators, or nothing at all
daemon_client  asks the running daemon
delete         `delete`: a LUN and its exports; its data stays
diagnosis      what can keep LUNs from working, how it shows, and which commands put it right
doctor         `doctor`: prints what `diagnosis` finds
exports        how LIO exports LUNs, as configfs shows it
faults         `faults`: what the filter `error` makes fail, changed while a LUN is used
finding        one finding of `doctor`, and the machine that is examined
hints          the way out in an error's text, in the words of the command line
iscsi          which initiators may use a LUN, for `create`
lio            what is made and removed in LIO, by rtslib-fb
main           the program: without a subcommand it is the daemon
manual         the manual page and shell completion, from the arguments
optional       libraries that only some commands need
output         tables for people, JSON for programs
overlay        `overlay`: what the filter `cow` has kept of a device that is not served
release        `release`: tidies up after a daemon that has died
serve          the daemon, as the command line starts it
show           `list`, `show` and `handlers`
top            `top`: what the LUNs do, live
try_           `try`: a LUN of one handler over iSCSI, without kernel module or root
"""
