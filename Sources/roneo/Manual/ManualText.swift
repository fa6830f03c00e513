/// The sections of the manual that no definition has, in mdoc.
enum ManualText {
    static let sections: [(title: String, mdoc: String)] = [
        ("ENVIRONMENT", environment), ("FILES", files), ("EXIT STATUS", exitStatus),
        ("EXAMPLES", examples), ("DIAGNOSTICS", diagnostics), ("SEE ALSO", seeAlso),
    ]

    private static let environment = #"""
        .Bl -tag -width Ds
        .It Ev PGHOST , Ev PGPORT , Ev PGUSER , Ev PGDATABASE , Ev PGSERVICE , ...
        Where the destination is, as for every program that uses libpq.
        Options are stronger.
        .It Ev PGPASSFILE , Ev PGPASSWORD
        How passwords are found.
        There is no option for a password, and none is asked for.
        .It Ev PG_CONFIG , Ev DESTDIR
        For
        .Cm install :
        the server's
        .Xr pg_config 1 ,
        and a folder that stands for the root.
        .It Ev NO_COLOR , Ev TERM , Ev COLUMNS
        No colours where
        .Ev NO_COLOR
        is set or
        .Ev TERM
        is
        .Ql dumb .
        .It Ev RONEO_BINDIR
        For
        .Cm demo :
        the folder with the programs of the server to use.
        .El
        """#

    private static let files = #"""
        There is no configuration file:
        what is to be copied, how and how often is in the tables of the extension.
        .Bl -tag -width Ds
        .It Pa ~/.pgpass , Pa ~/.pg_service.conf
        Passwords and services, as libpq reads them.
        .It Pa PREFIX/share/man/man1/roneo.1
        This page.
        .It Pa PREFIX/share/bash\-completion/completions/roneo
        .It Pa PREFIX/share/zsh/site\-functions/_roneo
        .It Pa PREFIX/share/fish/vendor_completions.d/roneo.fish
        What completes command lines.
        .El
        """#

    private static let exitStatus = #"""
        .Bl -tag -width Ds
        .It 0
        Done, or nothing was due, or the destination is a standby.
        .It 1
        A replica failed.
        Of
        .Cm verify
        and
        .Cm repair :
        a copy differs, or cannot be compared.
        Of
        .Cm fingerprint :
        what was compared is not the same.
        Of
        .Cm preflight :
        something is missing.
        Of
        .Cm demo :
        a copy differs.
        Also where the work is done,
        and its output, metrics or page could not be written.
        .It 64
        The command line makes no sense; nothing was done.
        .It 69
        The destination cannot be reached.
        .It 75
        Nothing was done, because others hold the locks,
        or a source is away for a while: try later.
        .It 78
        The extension is missing, or of a version this program does not know,
        or the role lacks rights on it.
        .It 128+N
        Ended by signal N: 130 for INT, 143 for TERM.
        What ran was cancelled on both servers, rolled back and recorded.
        .El
        .Pp
        .Cm check
        ends as a plugin of Nagios does: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
        .Pp
        A deferral beside replicas that were refreshed is no failure.
        A reader of the output that goes away early, as
        .Xr head 1
        does, changes neither work nor status.
        """#

    private static let examples = #"""
        The line for
        .Xr crontab 5 ,
        with numbers for Prometheus:
        .Bd -literal -offset indent
        * * * * * roneo run \-d 'host=warehouse dbname=warehouse' \e
            \-\-metrics\-file /var/lib/prometheus/node\-exporter/roneo.prom
        .Ed
        .Pp
        The same with its events in the journal:
        .Bd -literal -offset indent
        roneo run \-d warehouse \-\-log\-to syslog:local3 \-\-log\-format json
        journalctl \-t roneo \-o cat
        .Ed
        .Pp
        What failed, out of the report of a run:
        .Bd -literal -offset indent
        roneo run \-d warehouse \-\-json |
            jq '.replicas[] | select(.outcome == "failed") | .error'
        .Ed
        .Pp
        Again from a certain day on, two tables at a time:
        .Bd -literal -offset indent
        roneo refresh \-d warehouse \-j 2 \-\-repull \-\-from 2026\-01\-01 \e
            app.orders app.invoices
        .Ed
        """#

    private static let diagnostics = #"""
        Nothing is printed when all is well and there is no terminal.
        A failure is one block on stderr:
        which replica, what was being done, what the server said,
        what to do about it, and the SQLSTATE.
        Those of class RO are the extension's own; its reference lists them.
        Values of rows and passwords are in no message, log or report.
        .Pp
        Log lines have
        .Li run
        (this process),
        .Li run_id
        (the row of roneo.run),
        .Li dest ,
        .Li phase ,
        .Li rows ,
        .Li bytes ,
        .Li seconds
        and
        .Li sqlstate
        where they apply.
        """#

    private static let seeAlso = #"""
        .Xr pg_config 1 ,
        .Xr psql 1 ,
        .Xr syslog 3 ,
        .Xr crontab 5
        """#
}
