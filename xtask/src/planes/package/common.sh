# Runs as root in a Debian guest. What is found is said as Rust's tests say it.
exec </dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "tcpq-init: up $(uname -r)"
passed=0
failed=0

# check NAME COMMAND...
check() {
    name=$1
    shift
    if said=$("$@" 2>&1); then
        echo "test $name ... ok"
        passed=$((passed + 1))
    else
        echo "test $name ... FAILED"
        echo "---- $name ----"
        echo "$said"
        echo "--- so far"
        failed=$((failed + 1))
    fi
}

# until SECONDS COMMAND...
until_so() {
    left=$1
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        if [ "$left" -le 0 ]; then
            "$@"
            return
        fi
        sleep 1
    done
}

# The summary, what the daemon said if anything failed, and the end of this boot.
finish() {
    if [ "$failed" -gt 0 ]; then
        journalctl --no-pager -u tcpq -n 60
    fi
    echo "test result: $([ "$failed" = 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"
    sync
    echo "tcpq-init: exit $failed"
    systemctl --no-block reboot
}

incident_is_there() {
    tcpq incidents --json | tr -d ' \n' | grep -q '"port":"8443"'
}

answers() {
    tcpq list | grep -q 10391
}
