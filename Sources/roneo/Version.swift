/// Both halves are released together: this is `default_version` of `extension/roneo.control`, and
/// a test compares the two.
let programVersion = "0.5.0"
