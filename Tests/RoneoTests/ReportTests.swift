import Foundation
import TestSupport
import Testing

@testable import roneo

/// `roneo report --html`: one page that needs nothing else.
@Suite struct ReportTests {
    /// What a browser would call well-formed but for the elements that HTML leaves open.
    private func requireWellFormed(_ page: String) throws {
        #expect(page.hasPrefix("<!DOCTYPE html>\n"))
        var open: [Substring] = []
        for tag in page.dropFirst(15).matches(of: /<(\/?)([a-z][a-z0-9]*)[^<>]*?(\/?)>/) {
            if ["meta"].contains(tag.output.2) || tag.output.3 == "/" { continue }
            if tag.output.1.isEmpty {
                open.append(tag.output.2)
            } else {
                try #require(open.popLast() == tag.output.2, "\(tag.output.0)")
            }
        }
        #expect(open.isEmpty)
    }

    private func page(_ stage: Stage, _ arguments: String...) throws -> String {
        let ended = try stage.start(["report", "--html", "-"] + arguments).wait()
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.errors.isEmpty)
        try requireWellFormed(ended.output)
        return ended.output
    }

    @Test func whatIsWorstComesFirstWithItsMessage() throws {
        let stage = try Stage()
        try stage.makeReplica("a_good_one", every: "1 hour")
        try stage.makeReplica("\"<b>&'bad\"", every: "1 hour")
        #expect(try stage.run("run").status == 0)
        try stage.source.execute("ALTER TABLE \"<b>&'bad\" RENAME TO gone")
        for _ in 1...3 { #expect(try stage.run("refresh", "\"<b>&'bad\"").status == 1) }
        let page = try page(stage)
        #expect(page.contains("1 of 2 replicas needs attention"))
        let name = "public.&quot;&lt;b&gt;&amp;&#39;bad&quot;"
        #expect(!page.contains("<b>&'bad"), "names are text")
        let bad = try #require(page.range(of: "<h3>\(name)</h3>"))
        let good = try #require(page.range(of: "<h3>public.a_good_one</h3>"))
        #expect(bad.lowerBound < good.lowerBound)
        #expect(page.contains("3 failures in a row"))
        #expect(page.contains("RO004"))
        #expect(page.contains("3 times, "))
        #expect(page.contains("<path class=\"bar\""), "there are plots")
        #expect(page.contains("4 runs, 3 failed, 100 rows"), "which say what they show")
    }

    @Test func itNeedsNothingElse() throws {
        let stage = try Stage()
        try stage.makeReplica()
        let page = try page(stage, "--days", "30")
        for word in ["http:", "https:", "<script", "<link", "<img", "url(", "@import", "src="] {
            #expect(!page.contains(word), "\(word)")
        }
        #expect(page.contains("last 30 days"))
        #expect(page.contains("prefers-color-scheme:dark"))
    }

    @Test func nothingAtAllIsAPageToo() throws {
        let page = try page(try Stage(), "--days", "1")
        #expect(page.contains("There is no replica"))
        #expect(page.contains("last 24 hours"))
    }

    @Test func itIsWrittenBesideAndRenamed() throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("roneo-report-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("report.html").path
        let stage = try Stage()
        let ended = try stage.run("report", "--html", file)
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["report.html"])
        try requireWellFormed(String(contentsOfFile: file, encoding: .utf8))
        let refused = try stage.run("report", "--html", folder.appendingPathComponent("no/x").path)
        #expect(refused.status == 1, "\(refused)")
        #expect(refused.errors.contains("no/"))
    }

    @Test(
        "wrong arguments are usage",
        arguments: [["report"], ["report", "--html", "-", "--days", "0"]])
    func usage(arguments: [String]) throws {
        #expect(try RoneoProcess(arguments).wait().status == 64)
    }

    @Test(
        "plots have columns of a round length",
        arguments: [(1, 96), (2, 96), (3, 72), (7, 84), (14, 84), (30, 90), (90, 90), (365, 90)])
    func columns(days: Int, columns: Int) {
        #expect(Report.buckets(days) == columns)
    }

    @Test func plotsAreAsHighAsTheirValues() {
        let plot = Plot(columns: 10)
        let bars = plot.bars([(0, 10), (3, 5), (9, 0)], limit: 7)
        #expect(bars.contains("class=\"above\" d=\"M0 28v-28.0h.82V28z\""))
        #expect(bars.contains("class=\"bar\" d=\"M3 28v-14.0h.82V28z\""))
        #expect(bars.contains("class=\"limit\" d=\"M0 8.4H10\""))
        #expect(!bars.contains("M9"))
        #expect(
            plot.bars([])
                == "<svg viewBox=\"0 0 10 28\" preserveAspectRatio=\"none\" aria-hidden=\"true\"></svg>"
        )
        let strip = plot.strip([(2, [(.bad, 0.25), (.good, 0.75)], "1 < 2")])
        #expect(strip.contains("<title>1 &lt; 2</title>"))
        #expect(strip.contains("class=\"bad\" d=\"M2 28.0V21.0h.82V28.0z\""))
        #expect(strip.contains("class=\"good\" d=\"M2 21.0V0.0h.82V21.0z\""))
        let terse = Plot(columns: 10, isTerse: true).strip([(2, [(.bad, 1)], "words")])
        #expect(terse.contains("M2 28.0V0.0h.82V28.0z"))
        #expect(!terse.contains("words"))
    }
}
