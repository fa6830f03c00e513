import Testing

@testable import Postgres

@Suite("values of rows are taken out of the server's words")
struct DiscretionTests {
    @Test(arguments: [
        ("23505", "Key (id)=(secret) already exists.", "Key (id)=(…) already exists."),
        (
            "23505", "Key (lower(a), b)=(secret, x) already exists.",
            "Key (lower(a), b)=(…) already exists."
        ),
        ("23502", "Failing row contains (1, null, secret (2)).", "Failing row contains (…)."),
        (
            "23503", "Key (a)=(secret) is not present in table \"p\".",
            "Key (a)=(…) is not present in table \"p\"."
        ),
        ("22P02", "Token \"secret\" is invalid.", "Token \"…\" is invalid."),
        ("55000", "Table \"t\" (1) is kept.", "Table \"t\" (1) is kept."),
    ])
    func details(state: String, told: String, kept: String) {
        #expect(Discretion(sqlState: state).detail(told) == kept)
    }

    @Test(arguments: [
        (
            "22P02", "invalid input syntax for type integer: \"secret\"",
            "invalid input syntax for type integer: \"…\""
        ),
        (
            "22003", "value \"99999999999\" is out of range for type integer",
            "value \"…\" is out of range for type integer"
        ),
        (
            "22021", "invalid byte sequence for encoding \"UTF8\": 0xff",
            "invalid byte sequence for encoding \"UTF8\": 0xff"
        ),
        ("42P01", "relation \"t\" does not exist", "relation \"t\" does not exist"),
    ])
    func messages(state: String, told: String, kept: String) {
        #expect(Discretion(sqlState: state).message(told) == kept)
    }

    @Test(arguments: [
        ("22P02", "COPY t, line 2, column a: \"secret\nmore\"", "COPY t, line 2, column a"),
        ("23505", "COPY t, line 2", "COPY t, line 2"),
        ("P0001", "COPY t, line 2: \"secret\"", "COPY t, line 2"),
        (
            "P0001", "PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 2: \"secret\"",
            "PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 2"
        ),
    ])
    func contexts(state: String, told: String, kept: String) {
        #expect(Discretion(sqlState: state).context(told) == kept)
    }
}
