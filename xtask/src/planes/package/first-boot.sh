check installs dpkg -i /payload/first.deb
check list_answers_within_10_s until_so 10 answers
check is_active systemctl is-active tcpq.service
check is_enabled systemctl is-enabled tcpq.service
check is_its_own_user sh -c '
    pid=$(systemctl show --property MainPID --value tcpq.service)
    user=$(id --user tcpq)
    grep -q "^Uid:.$user.$user.$user.$user\$" "/proc/$pid/status"'
check runs_with_little sh -c '
    pid=$(systemctl show --property MainPID --value tcpq.service)
    # CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_BPF.
    grep -q "^CapPrm:.0000008000080004\$" "/proc/$pid/status"'
check nothing_is_amiss sh -c '! journalctl --no-pager -u tcpq | grep -E "WARN|ERROR|missing privilege"'
check hardened sh -c '
    said=$(systemd-analyze security --no-pager tcpq.service | tail -n 1)
    echo "$said" >/dev/ttyS0
    case $said in *" OK "*) ;; *) echo "$said"; exit 1 ;; esac'
check pages_are_found sh -c 'test -s /usr/share/man/man1/tcpq.1.gz || ! test -d /usr/share/man/man1'
check doctor_knows_it sh -c 'tcpq doctor | grep -q "of the running daemon"'

# A server that does not accept, and its clients.
perl -MIO::Socket::INET -e '
    $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:8443", ReuseAddr => 1) or die;
    sleep 300' &
sleep 1
perl -MIO::Socket::INET -e '
    for (1 .. 8) {
        push @all, IO::Socket::INET->new(PeerAddr => "127.0.0.1:8443", Blocking => 0);
    }
    sleep 20' &
check records_an_incident until_so 30 incident_is_there

echo '# ours' >>/etc/tcpq/tcpq.toml
before=$(systemctl show --property MainPID --value tcpq.service)
check upgrades dpkg -i /payload/second.deb
check list_answers_after_the_upgrade until_so 10 answers
check is_another_process test "$before" != "$(systemctl show --property MainPID --value tcpq.service)"
check keeps_the_incident until_so 10 incident_is_there
check keeps_the_settings grep -q '^# ours$' /etc/tcpq/tcpq.toml

# The endpoint's socket by systemd.
systemctl stop tcpq.service
echo 'web.systemd-socket = true' >>/etc/tcpq/tcpq.toml
check settings_are_right tcpq serve --config /etc/tcpq/tcpq.toml --check-config
check socket_starts systemctl enable --now tcpq.socket
check service_starts_on_the_socket systemctl start tcpq.service
check list_answers_beside_the_socket until_so 10 answers
finish
