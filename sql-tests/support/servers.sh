# shellcheck shell=bash
# Several throw-away servers at a time, each with a name, and of any version. They share one
# directory for sockets and differ by port. Sourced by servers/check and versions/check.

# shellcheck source=sql-tests/support/cluster.sh
. sql-tests/support/cluster.sh

# Sets work, and PGHOST and PGUSER for all servers to come.
begin_servers() {
    trap end_servers EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d /tmp/roneo-test.XXXXXX)
    chmod 755 "$work"
    mkdir -m 777 "$work/socket"
    export PGHOST=$work/socket PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=10
    unset PGPORT PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE PGPASSFILE PGSERVICEFILE
}

# use_programs PG_CONFIG LABEL: servers made from now on run from a staged copy of these programs,
# with this tree's extension.
use_programs() {
    pg_config=$1
    stage=$work/stage-$2
    stage_server
    install_extension extension
}

# new_server NAME PORT [OPTION…]: makes a cluster and starts it; options are those of initdb.
new_server() {
    local name=$1 port=$2
    shift 2
    keep_directory "$name" "$port"
    as_server "$server_bin/initdb" -D "$work/$name/data" -U postgres -A trust -E UTF8 --locale=C \
        --no-sync "$@" >"$work/$name/initdb.log" 2>&1 ||
        { cat "$work/$name/initdb.log" >&2; die "initdb failed"; }
    # No full_page_writes = off or synchronous_commit = off: some of these servers will crash.
    as_server tee -a "$work/$name/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$PGHOST'
port = $port
fsync = off
shared_buffers = 16MB
max_connections = 20
autovacuum = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
CONF
    start "$name"
}

# new_standby NAME PORT PRIMARY: a hot standby of a running server.
new_standby() {
    keep_directory "$1" "$2"
    as_server "$("$pg_config" --bindir)/pg_basebackup" -D "$work/$1/data" -R -c fast --no-sync \
        -h "$PGHOST" -p "$(port_of "$3")" -U postgres || die "pg_basebackup failed"
    as_server tee -a "$work/$1/data/postgresql.conf" >/dev/null <<<"port = $2"
    start "$1"
}

keep_directory() {
    mkdir "$work/$1" "$work/$1/data"
    printf '%s\n' "$2" >"$work/$1/port"
    printf '%s\n' "$server_bin" >"$work/$1/bin"
    touch "$work/$1/log"
    chmod 700 "$work/$1/data"
    [ "$(id -u)" != 0 ] || chown postgres "$work/$1/data" "$work/$1/log"
}

port_of() { cat "$work/$1/port"; }

# control NAME …: what pg_ctl can do with a server.
control() {
    local name=$1
    shift
    as_server "$(cat "$work/$name/bin")/pg_ctl" -D "$work/$name/data" "$@" >/dev/null
}

start() {
    control "$1" -l "$work/$1/log" -w -t 60 start ||
        { tail -n 30 "$work/$1/log" >&2; die "server $1 did not start"; }
}

# stop NAME [MODE]: fast unless told otherwise.
stop() { control "$1" -m "${2:-fast}" -w stop; }

promote() { control "$1" -w promote; }

# on NAME DATABASE …: psql there, quiet, stopping at the first error.
on() {
    local name=$1
    shift
    PGPORT=$(port_of "$name") admin "$@"
}

# wait_for SECONDS COMMAND…: until it succeeds.
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.2
    done
}

# Ends one session of a server as a crash does: the postmaster survives, restarts the others, and
# discards the statistics.
kill_session() {
    local victim
    PGPORT=$(port_of "$1") psql -X -q -A -t -d "$2" -o "$work/victim" \
        -c 'SELECT pg_backend_pid()' -c '\o' -c 'SELECT pg_sleep(60)' >/dev/null 2>&1 &
    wait_for 10 test -s "$work/victim" || return
    read -r victim <"$work/victim"
    rm "$work/victim"
    kill -9 "$victim"
    wait $! || true
    wait_for 20 on "$1" "$2" -c 'SELECT 1' >/dev/null 2>&1
}

end_servers() {
    local status=$? directory
    trap - EXIT INT TERM
    for directory in "${work:?}"/*/; do
        [ ! -e "$directory/data/postmaster.pid" ] || stop "$(basename "$directory")" immediate || true
    done
    if [ -n "${KEEP:-}" ]; then
        say "kept: $work"
    else
        rm -rf "$work"
    fi
    exit "$status"
}

# The runner to test with: RONEO, or what has been built here; none where nothing has.
find_runner() {
    local candidate
    for candidate in "${RONEO:-}" .build/release/roneo .build/debug/roneo; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}
