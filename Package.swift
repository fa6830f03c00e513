// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "roneo",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "roneo", targets: ["roneo"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .systemLibrary(
            name: "CLibPQ",
            pkgConfig: "libpq",
            providers: [.apt(["libpq-dev"]), .brew(["libpq"])]
        ),
        .target(name: "Postgres", dependencies: ["CLibPQ"]),
        .target(name: "LocalCluster"),
        .target(name: "Replication", dependencies: ["Postgres"]),
        .executableTarget(
            name: "roneo",
            dependencies: [
                "Replication",
                "Postgres",
                "LocalCluster",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .target(
            name: "TestSupport",
            dependencies: ["LocalCluster", "Postgres"],
            path: "Tests/TestSupport"
        ),
        .testTarget(name: "PostgresTests", dependencies: ["Postgres", "TestSupport"]),
        .testTarget(
            name: "ReplicationTests",
            dependencies: ["Replication", "Postgres", "TestSupport"]
        ),
        .testTarget(
            name: "RoneoTests",
            dependencies: ["roneo", "Replication", "TestSupport"]
        ),
    ],
    swiftLanguageModes: [.v6]
)
