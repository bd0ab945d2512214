# Files of the C daemon's package that would stay: its policy lets every user register handlers.
drop_old_conffiles() {
    for file in /etc/dbus-1/system.d/tcmu-runner.conf /etc/init.d/tcmu-runner; do
        dpkg-maintscript-helper rm_conffile "$file" 2.0.0~ tcmu-runner -- "$@"
    done
}
