#!/bin/sh
# install.sh WHEEL [live]: our daemon into /opt/tcmu-runner. "live" puts a link to /src/src in place of the package, so that
# the next `sync.sh` is all that a change of the source needs.
# The wheel is unpacked without pip, which takes ten times as long; the tests of the package are those of an installation.
set -eu
home=/opt/tcmu-runner
site=$(echo $home/lib/python3.*/site-packages)
rm -rf "$site"/tcmu_runner "$site"/tcmu_runner-*.dist-info
$home/bin/python -m zipfile -e "$1" "$site"
cat >$home/bin/tcmu-runner <<SCRIPT
#!$home/bin/python
import sys
from tcmu_runner.cli.main import main
sys.exit(main())
SCRIPT
chmod 755 $home/bin/tcmu-runner
if [ "${2-}" = live ]; then
    rm -r "$site/tcmu_runner"
    ln -s /src/src/tcmu_runner "$site/tcmu_runner"
fi
