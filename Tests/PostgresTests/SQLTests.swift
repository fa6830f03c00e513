import Testing

@testable import Postgres

@Suite struct SQLTests {
    @Test func interpolationMakesParameters() {
        let dest = "public.t"
        let missing: Int? = nil
        let sql: SQL = "SELECT refresh(\(dest)::regclass, \(7), \(missing), \(true))"
        #expect(sql.text == "SELECT refresh($1::regclass, $2, $3, $4)")
        #expect(sql.parameters == ["public.t", "7", nil, "true"])
    }

    @Test func aLiteralHasNoParameters() {
        let sql: SQL = "SELECT '$1'"
        #expect(sql.text == "SELECT '$1'")
        #expect(sql.parameters.isEmpty)
    }

    @Test func verbatimTextStaysAsItIs() {
        #expect(SQL(verbatim: "COPY \"a\\b\" TO STDOUT").text == "COPY \"a\\b\" TO STDOUT")
    }

    @Test(
        "lists become array literals",
        arguments: [
            ([], "{}"), (["a", "b"], #"{"a","b"}"#),
            ([#"x"y\z"#, "", "NULL"], #"{"x\"y\\z","","NULL"}"#),
        ])
    func lists(values: [String], literal: String) {
        let sql: SQL = "SELECT \(values)::text[]"
        #expect(sql.text == "SELECT $1::text[]")
        #expect(sql.parameters == [literal])
    }
}
