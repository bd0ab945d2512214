export PATH=/opt/tcmu-runner/bin:$PATH
[ -d /src ] && cd /src
