import Replication

/// Plans as a person reads them: every step with its purpose, and the SQL below it.
enum PlanText {
    static func text(_ plans: [ReplicaPlan], _ terminal: Terminal) -> String {
        plans.map { text($0, terminal) }.joined(separator: "\n")
    }

    private static func text(_ plan: ReplicaPlan, _ terminal: Terminal) -> String {
        let title = terminal.styled(plan.dest.printable, .bold)
        let about = "\(plan.method) of source \(plan.source.printable)"
        guard !plan.steps.isEmpty else {
            return "\(title): \(about), nothing to do: unchanged\n"
        }
        let count = plan.steps.count == 1 ? "1 step" : "\(plan.steps.count) steps"
        let steps = plan.steps.map { text($0, terminal) }
        return "\(title): \(about), \(count)\n" + steps.joined()
    }

    private static func text(_ step: Step, _ terminal: Terminal) -> String {
        let place = step.kind == .check || step.kind == .after ? " (on the source)" : ""
        let patience = step.patient ? " (waits briefly for its lock, several times)" : ""
        let head = "  \(step.number). \(step.purpose)\(place)\(patience)"
        var statements = [step.statement]
        if step.movesRows {
            statements = [
                "source:      \(step.copyOut ?? "")", "destination: \(step.copyIn ?? "")",
            ]
        }
        let lines = statements.flatMap {
            $0.split(separator: "\n", omittingEmptySubsequences: false)
        }
        return ([head] + lines.map { terminal.styled("       \($0)", .dim) })
            .map { $0 + "\n" }.joined()
    }
}
