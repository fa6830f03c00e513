# shellcheck shell=bash
# Two throw-away clusters, source and destination, that write to disk as a real server does; and a
# stopwatch. Sourced by the measurements here.

# shellcheck source=sql-tests/support/cluster.sh
. sql-tests/support/cluster.sh

export LC_ALL=C PGTZ=UTC

# Starts both. Sets work, bindir, source_conninfo, dest_conninfo and roneo.
start_pair() {
    trap stop_pair EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    pg_config=$(find_pg_config)
    bindir=$("$pg_config" --bindir)
    work=$(mktemp -d /tmp/roneo-bench.XXXXXX)
    chmod 755 "$work"
    stage=$work/stage
    unset PGHOST PGPORT PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGPASSFILE PGSERVICEFILE
    export PGUSER=postgres
    server_pids=()
    stage_server
    install_extension extension
    start_server source
    start_server dest
    source_conninfo="host=$work/source/socket dbname=bench user=postgres"
    dest_conninfo="host=$work/dest/socket dbname=bench user=postgres"
    admin "host=$work/source/socket dbname=postgres" -c 'CREATE DATABASE bench'
    admin "host=$work/dest/socket dbname=postgres" -c 'CREATE DATABASE bench'
    roneo=$PWD/.build/release/roneo
    if [ -n "${RONEO:-}" ]; then
        roneo=$RONEO
    elif [ ! -x "$roneo" ]; then
        say 'building the runner'
        swift build -c release --static-swift-stdlib --product roneo >&2
    fi
    [ -x "$roneo" ] || die "there is no program $roneo"
}

start_server() {
    local home=$work/$1
    mkdir -m 777 "$home" "$home/socket"
    as_server "$server_bin/initdb" -D "$home/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 \
        --no-sync >"$home/initdb.log" 2>&1 || { cat "$home/initdb.log" >&2; die "initdb failed"; }
    as_server tee -a "$home/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$home/socket'
shared_buffers = ${SHARED_BUFFERS:-1GB}
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
jit = ${JIT:-off}
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
# Names in the server's log each reader that waits longer than this for a lock, and how long.
log_lock_waits = on
deadlock_timeout = 10ms
CONF
    as_server "$server_bin/pg_ctl" -D "$home/data" -l "$home/server.log" -w -t 60 start \
        >/dev/null || { cat "$home/server.log" >&2; die "the server did not start"; }
    server_pids+=("$(as_server head -n 1 "$home/data/postmaster.pid")")
}

stop_pair() {
    local status=$? side
    trap - EXIT INT TERM
    if [ -n "${work:-}" ]; then
        for side in source dest; do
            [ ! -e "$work/$side/data/postmaster.pid" ] ||
                as_server "$server_bin/pg_ctl" -D "$work/$side/data" -m immediate -w stop \
                    >/dev/null || true
        done
        if [ -n "${KEEP:-}" ]; then
            say "kept: $work (server logs: source/server.log, dest/server.log)"
        else
            rm -rf "$work"
        fi
    fi
    exit "$status"
}

on_source() { admin "$source_conninfo" "$@"; }
on_dest() { admin "$dest_conninfo" "$@"; }

has_extension() {
    [ "$(on_dest -c "SELECT count(*) FROM pg_available_extensions WHERE name = '$1'")" = 1 ]
}

# Says so where it is not.
has_mimeo() { has_extension mimeo || { say 'mimeo is not installed for this server, and is left out'; false; }; }

# The destination's database gets the extension, and the source under the name of "here".
install_roneo() {
    on_dest -c 'CREATE EXTENSION dblink' -c 'CREATE EXTENSION roneo' -c 'CREATE SCHEMA app' \
        -c "SELECT FROM roneo.create_source('here', '$source_conninfo')"
}

# In a database of its own. Sets mimeo_conninfo.
install_mimeo() {
    admin "host=$work/dest/socket dbname=postgres" -c 'CREATE DATABASE mimeo'
    mimeo_conninfo=${dest_conninfo/dbname=bench/dbname=mimeo}
    admin "$mimeo_conninfo" -c 'CREATE EXTENSION dblink' -c 'CREATE SCHEMA mimeo' \
        -c 'CREATE EXTENSION mimeo SCHEMA mimeo' -c 'CREATE SCHEMA app' \
        -c "INSERT INTO mimeo.dblink_mapping_mimeo (data_source, username)
            VALUES ('${source_conninfo% user=*}', 'postgres')"
}

checkpoint() {
    on_source -c CHECKPOINT &
    on_dest -c CHECKPOINT
    wait "$!"
}

# Sets microseconds to what a command took, and cpu to the processor time of its own processes and
# of the servers' sessions, in hundredths of a second; less than nothing where there is no /proc.
stopwatch() {
    local from spent before
    before=$(count_sessions)
    count_cpu
    spent=$cpu
    from=${EPOCHREALTIME/./}
    "$@"
    # shellcheck disable=SC2034 # for the caller
    microseconds=$((${EPOCHREALTIME/./} - from))
    # Sessions count when their server has seen them end, which a busy machine delays.
    for _ in {1..30}; do
        sleep 0.1
        [ "$(count_sessions)" -gt "$before" ] || break
    done
    count_cpu
    cpu=$((cpu - spent))
}

# How many children both servers have.
count_sessions() {
    local pid
    for pid in "${server_pids[@]}"; do
        cat "/proc/$pid/task/$pid/children" 2>/dev/null || true
    done | wc -w
}

# Sets cpu to what the ended children of this shell and of both servers have used up.
count_cpu() {
    local pid line fields
    cpu=0
    for pid in $$ "${server_pids[@]}"; do
        [ -r "/proc/$pid/stat" ] || { cpu=-1; return; }
        read -r line <"/proc/$pid/stat"
        # Counted from the third field, behind the name in parentheses.
        read -ra fields <<<"${line##*) }"
        cpu=$((cpu + fields[13] + fields[14]))
    done
}
