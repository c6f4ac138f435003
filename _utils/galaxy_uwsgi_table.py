"""
uWSGI's table of options, as far as it decides how words are read (2.0.31 and its plugins, ``struct uwsgi_option``).
"""

# options without an argument
_FLAGS = """
    abstract-socket alarm-list alarms-list auto-procname autoload cache-no-expire cache-report-freed-items
    cache-use-last-modified carbon-name-resolve carbon-no-workers carbon-resolve-names carbon-use-metrics
    catch-exceptions cflags cgi-async-max-attempts cgi-close-stdin-on-eof cgi-do-not-kill-on-error cgi-from-docroot
    cgi-mode cgi-optimize cgi-optimized cgi-path-info cheap cheaper-algo-list cheaper-algos-list
    cheaper-busyness-verbose cheaper-list check-static-docroot clock-list clocks-list close-on-exec close-on-exec2
    command-mode config-py daemons-honour-stdin die-on-idle die-on-term disable-logging disable-sendfile
    disable-write-exception dot-h drop-after-apps drop-after-init dump-options early-emperor
    emperor-graceful-shutdown emperor-magic-exec emperor-no-blacklist emperor-nofollow emperor-tyrant
    emperor-tyrant-nofollow enable-metrics enable-proxy-protocol enable-threads end-blacklist end-whitelist
    exit-on-reload fastrouter-cheap fastrouter-fallback-on-no-key fiber force-gateway forkptyrouter-cheap freebind
    geoip-use-disk gevent-early-monkey-patch gevent-monkey-patch gevent-wait-for-hub greenlet harakiri-no-arh
    harakiri-verbose help honour-range honour-stdin http-auto-chunked http-auto-gzip http-cheap http-chunked-input
    http-manage-rtsp http-manage-source http-raw-body http-websockets https-export-cert if-not-reload if-reload
    ignore-script-name ignore-sigpipe ignore-write-errors imperial-monitor-list imperial-monitors-list jailed lazy
    lazy-apps ldap-schema ldap-schema-ldif log-4xx log-5xx log-format-strftime log-master log-master-req-stream
    log-master-stream log-micros log-reopen log-truncate log-x-forwarded-for log-zero logfile-chown
    logformat-strftime logger-list loggers-list loop-list loops-list lua-gc-freq lua-shell luashell
    manage-script-name master master-as-root memory-report metric-dir-restore metrics-dir-restore metrics-no-cores
    nagios never-swap no-default-app no-defer-accept no-fd-passing no-harakiri-after-req-hook no-harakiri-arh
    no-initgroups no-orphans no-server no-site no-threads-wait notfound-log paste-logger pcre-jit perl-no-die-catch
    perl-no-plack perl-version persistent-ipcsem php-dump-config plshell-oneshot plugin-list plugins-list
    propagate-touch psgi-enable-psgix-io pty-input pty-log pty-no-isig py-call-osafterfork py-call-uwsgi-fork-hooks
    python-version rawrouter-cheap rawrouter-xclient rb-thread rb-threads rbshell-oneshot rbthread rbthreads re-fork
    re-fork-as-root re-fork-post-jail reaper refork refork-as-root refork-post-jail reload-on-exception
    reload-os-env reuse-port router-list routers-list rsyslog-split-messages setns-preopen show-config
    shutdown-sockets single-interpreter skip-atexit skip-atexit-teardown skip-zero so-keepalive so-send-timeout
    so-write-timeout socket-send-timeout socket-write-timeout spooler-ordered spooler-quiet ssl-enable-sslv3
    ssl-enable-tlsv1 ssl-enable3 ssl-option ssl-verbose sslrouter-cheap sslrouter-sni stackless start-unsubscribed
    start_response-nodelay static-gzip-all stats-http stats-min stats-minified stats-no-cores stats-no-metrics
    strict subscription-dotsplit subscriptions-use-credentials symcall-use-next tcp-fast-open-client
    tcp-fastopen-client tcp-nodelay threaded-logger thunder-lock ugreen unsubscribe-on-graceful-reload usage
    use-abort vacuum version vhost vhost-host write-errors-exception-only wsgi-accept-buffer wsgi-accept-buffers
    wsgi-disable-file-wrapper wsgi-strict zerg-fallback
"""
NO_ARGUMENT = frozenset(_FLAGS.split())
# options with one only behind "="
_MAYBE = """
    check-cache chmod chmod-socket end-for end-if endfor endif exit fastrouter-use-cache fastrouter-use-socket
    http-enable-proxy-protocol http-keepalive http-manage-expect http-use-cache http-use-socket ksm log-date log-prefix
    log-syslog logdate mule mule-msg-size need-app plshell pyshell pyshell-oneshot rawrouter-use-cache
    rawrouter-use-socket rbshell snmp ssl-session-use-cache ssl-sessions-use-cache ssl-verify-depth
    sslrouter-use-cache sslrouter-use-socket tuntap-use-credentials zabbix-template
"""
OPTIONAL = frozenset(_MAYBE.split())
# short options: the name that uWSGI gives them, behind ":" where an argument follows, "?" where it may
SHORT = {
    **{"A": ":sharedarea", "C": "?chmod-socket", "H": ":home", "J": ":test", "L": "disable-logging", "M": "master"},
    **{"O": ":optimize", "Q": ":spooler", "R": ":max-requests", "S": ":set", "T": "enable-threads"},
    **{"a": "abstract-socket", "b": ":buffer-size", "c": "cgi-mode", "d": ":daemonize", "h": "help"},
    **{"i": "single-interpreter", "j": ":json", "l": ":listen", "m": "memory-report", "p": ":processes"},
    **{"r": "reaper", "s": ":socket", "t": ":harakiri", "v": ":max-vars", "w": ":module", "x": ":xml", "y": ":yaml"},
    **{"z": ":socket-timeout"},
}
# options that turn the master on by themselves (UWSGI_OPT_MASTER), unless a master option says otherwise
_WITH_MASTER = """
    alarm alarm-backlog alarm-fd alarm-listen-queue alarm-log alarm-lq alarm-metric alarm-segfault
    attach-control-daemon attach-daemon attach-daemon2 backlog-alarm brutal-reload-on-fd cache-store cache-udp-node
    cache-udp-server carbon cheap cheaper cheaper-algo cheaper-initial cheaper-overload cheaper-rss-limit-hard
    cheaper-rss-limit-soft cheaper-step check-interval check-mount check-mountpoint cron cron-curl cron-curl-legion
    cron-legion cron2 curl-cron curl-cron-legion daemons-honour-stdin enable-metrics evil-reload-on-as
    evil-reload-on-rss exception-handler farm forkbomb-delay fs-brutal-reload fs-reload fs-signal idle legion
    legion-attach-daemon legion-cron legion-cron-curl legion-curl-cron legion-death legion-death-on-lord-error
    legion-freq legion-join legion-lord legion-mcast legion-node legion-node-joined legion-node-left legion-quorum
    legion-scroll legion-setup legion-skew-tolerance legion-smart-attach-daemon legion-smart-attach-daemon2
    legion-tolerance legion-unlord listen-queue-alarm log-alarm log-drain log-encoder log-filter log-master
    log-maxsize log-req-encoder log-req-route log-route log-socket log-syslog log-zeromq logger logger-req lq-alarm
    master-fifo metric metric-alarm metric-dir metric-dir-restore metric-threshold metrics-dir metrics-dir-restore
    metrics-no-cores mount-check mountpoint-check mule mule-msg-size mules multicast not-alarm-log not-log-alarm
    notify-socket perl-auto-reload perl-auto-reload-ignore py-auto-reload py-auto-reload-ignore py-autoreload
    py-tracebacker python-auto-reload python-autoreload queue-store rbtimer reload-on-fd req-logger rrdtool
    segfault-alarm setns-socket signal-rbtimer signal-timer smart-attach-daemon smart-attach-daemon2 spooler
    spooler-external ssl-session-use-cache ssl-sessions-use-cache st static-cache-paths static-cache-paths-name
    stats stats-http stats-min stats-minified stats-no-cores stats-no-metrics stats-push stats-pusher-default-freq
    stats-pushers-default-freq stats-server subscribe subscribe-to subscribe-with-modifier1 subscribe2
    subscription-notify-socket subscriptions-credentials-check subscriptions-sign-check
    subscriptions-sign-check-tolerance subscriptions-sign-skip-uid threaded-logger timer touch-chain-reload
    touch-exec touch-logreopen touch-logrotate touch-mules-reload touch-reload touch-signal touch-spoolers-reload
    touch-workers-reload udp unique-cron unique-cron-legion unique-legion-cron zerg-server
"""
MASTER = frozenset(_WITH_MASTER.split())
