scrape() {
    bash -c '
        exec 3<>/dev/tcp/127.0.0.1/10391
        printf "GET /metrics HTTP/1.0\r\n\r\n" >&3
        cat <&3' | grep -q "^tcpq_build_info"
}

check service_is_active_after_a_reboot until_so 60 systemctl is-active tcpq.service
check socket_is_active_after_a_reboot systemctl is-active tcpq.socket
check list_answers until_so 10 answers
check metrics_are_served_on_the_socket until_so 10 scrape
check incident_outlived_the_reboot incident_is_there

check removes dpkg --remove tcpq
check remove_keeps_the_incidents test -s /var/lib/tcpq/incidents.db
check remove_keeps_the_settings test -s /etc/tcpq/tcpq.toml
check nothing_runs_any_more sh -c '! grep -l "^tcpq\$" /proc/[0-9]*/comm'
check purges dpkg --purge tcpq
check purge_leaves_nothing sh -c '
    left=$(find / -xdev -iname "*tcpq*" -not -path "/payload/*" -not -path "/proc/*" -not -path "/sys/*")
    if [ -n "$left" ]; then echo "$left"; exit 1; fi'
check purge_leaves_no_user sh -c '! getent passwd tcpq && ! getent group tcpq'
check purge_leaves_no_unit sh -c '! systemctl cat tcpq.service'
finish
