# shellcheck shell=bash
# A throw-away cluster with this tree's extension in it. Sourced by sql-tests/run and upgrade/check.
#
# The server runs from a staged copy: PostgreSQL finds its share directory relative to the
# program's own path, so a copied binary among links to the real files has an extension directory
# of its own. Nothing is installed on the machine, nobody needs to be root, and any number of
# checkouts can be tested at a time. (extension_control_path does the same from PostgreSQL 18 on.)

# runuser is among the administrator's programs.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '# %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# The pg_config whose bindir has a server, the user's own choice first, then the newest; nothing
# where there is no server.
server_pg_config() {
    local candidate
    for candidate in "${PG_CONFIG:-pg_config}" \
        $(find /usr/lib/postgresql/*/bin /usr/pgsql-*/bin -name pg_config 2>/dev/null | sort -rV); do
        if [ -x "$("$candidate" --bindir 2>/dev/null)/initdb" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

find_pg_config() {
    local found
    found=$(server_pg_config)
    [ -n "$found" ] || die "no PostgreSQL server found; 'make bootstrap' installs one, or set PG_CONFIG"
    printf '%s\n' "$found"
}

# The server refuses to be root, so root lends itself to the user postgres.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && exec runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Links to every entry of one directory, in another.
link_entries() {
    mkdir -p "$2"
    find "$1" -mindepth 1 -maxdepth 1 -exec ln -s -t "$2" {} +
}

# Copies the programs that look for files beside themselves below $stage, and links the rest.
stage_server() {
    local bindir sharedir pkglibdir program
    bindir=$("$pg_config" --bindir)
    sharedir=$("$pg_config" --sharedir)
    pkglibdir=$("$pg_config" --pkglibdir)
    link_entries "$bindir" "$stage$bindir"
    for program in postgres initdb pg_ctl pg_config; do
        rm -f "$stage$bindir/$program"
        cp -L "$bindir/$program" "$stage$bindir/"
    done
    link_entries "$sharedir" "$stage$sharedir"
    rm "$stage$sharedir/extension"
    link_entries "$sharedir/extension" "$stage$sharedir/extension"
    # Whatever roneo the machine has is not the one under test.
    rm -f "$stage$sharedir/extension"/roneo.control "$stage$sharedir/extension"/roneo--*
    # On some systems the libraries are below the share directory, and linked already.
    if [ ! -e "$stage$pkglibdir" ]; then
        mkdir -p "$(dirname "$stage$pkglibdir")"
        ln -s "$pkglibdir" "$stage$pkglibdir"
    fi
    server_bin=$stage$bindir
}

# Builds the extension of the given tree and puts it into the staged server.
install_extension() {
    make -s -C "$1" PG_CONFIG="$pg_config" all &&
        make -s -C "$1" PG_CONFIG="$pg_config" DESTDIR="$stage" install
}

# CREATE EXTENSION does not say where in its script it failed (before PostgreSQL 18); psql does.
show_failing_line() {
    local file copy
    admin postgres -c 'CREATE DATABASE roneo_files' || return
    {
        # As CREATE EXTENSION does it.
        echo 'CREATE SCHEMA roneo; SET search_path = roneo, pg_temp;'
        echo 'SET check_function_bodies = off;'
        for file in $(make -s -C "$1" PG_CONFIG="$pg_config" list-sources 2>/dev/null); do
            copy=$work/${file//\//-}
            # Only an extension's script may mark a table for the dump.
            sed 's/^SELECT pg_catalog.pg_extension_config_dump.*//' "$1/$file" >"$copy"
            printf "\\\\echo '#' %s\n\\\\i '%s'\n" "$file" "$copy"
        done
    } >"$work/files.sql"
    admin roneo_files -v VERBOSITY=default -f "$work/files.sql" >&2 || true
}

# Starts a new cluster. Sets work, stage, server_bin, pg_config, PGHOST, PGPORT and PGUSER.
start_cluster() {
    trap stop_cluster EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    pg_config=$(find_pg_config)
    work=$(mktemp -d /tmp/roneo-test.XXXXXX)
    chmod 755 "$work"
    stage=$work/stage
    data=$work/data
    mkdir "$data" "$work/log"
    [ "$(id -u)" != 0 ] || chown postgres "$data" "$work/log"
    stage_server

    export PGHOST=$work/socket PGPORT=5499 PGUSER=postgres PGDATABASE=postgres
    unset PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE PGPASSFILE PGSERVICEFILE
    mkdir -m 777 "$PGHOST"
    as_server "$server_bin/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 \
        --no-sync >"$work/initdb.log" 2>&1 || { cat "$work/initdb.log" >&2; die "initdb failed"; }
    # Only the reader needs a password, because dblink wants one of those who are not superusers.
    as_server tee "$data/pg_hba.conf" >/dev/null <<'HBA'
local all         reader scram-sha-256
local all         all    trust
local replication all    trust
HBA
    as_server tee -a "$data/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
unix_socket_directories = '$PGHOST'
port = $PGPORT
fsync = off
synchronous_commit = off
# Who waits until a commit is on disk need not wait for long.
wal_writer_delay = 10ms
full_page_writes = off
shared_buffers = 64MB
max_connections = 60
max_prepared_transactions = 10
autovacuum = off
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
CONF
    as_server "$server_bin/pg_ctl" -D "$data" -l "$work/log/server.log" -w -t 60 start \
        >/dev/null || { cat "$work/log/server.log" >&2; die "the server did not start"; }
    admin postgres -c "CREATE ROLE reader LOGIN PASSWORD 'reader secret'"
}

stop_cluster() {
    local status=$?
    trap - EXIT INT TERM
    if [ -n "${work:-}" ]; then
        [ ! -e "$data/postmaster.pid" ] ||
            as_server "$server_bin/pg_ctl" -D "$data" -m immediate -w stop >/dev/null || true
        if [ -n "${KEEP:-}" ]; then
            say "kept: $work (server log: $work/log/server.log)"
        else
            rm -rf "$work"
        fi
    fi
    exit "$status"
}

# psql for the harness itself: in a database, quiet, stopping at the first error.
admin() {
    local database=$1
    shift
    psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$database" "$@"
}
