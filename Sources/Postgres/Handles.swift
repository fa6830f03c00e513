import CLibPQ

/// Owns one PGresult.
final class ResultHandle {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) { self.pointer = pointer }

    deinit { PQclear(pointer) }
}

/// Owns one PGconn, and what libpq calls with its notices.
///
/// A class of its own, because a throwing initializer that has set all properties of a class runs
/// its deinit: with PQfinish there, a failed connection would be freed twice.
final class ConnectionHandle {
    let pointer: OpaquePointer
    let notices: NoticeCounter

    init(_ pointer: OpaquePointer, notices: NoticeCounter) {
        self.pointer = pointer
        self.notices = notices
        PQsetNoticeReceiver(
            pointer,
            { counter, result in
                guard let counter, let result else { return }
                Unmanaged<NoticeCounter>.fromOpaque(counter).takeUnretainedValue().take(result)
            }, Unmanaged.passUnretained(notices).toOpaque())
    }

    deinit { PQfinish(pointer) }
}

/// Counts a connection's notices and hands them on; without it libpq would print them.
final class NoticeCounter {
    private(set) var count = 0
    private let onNotice: ((PostgresError) -> Void)?

    init(_ onNotice: ((PostgresError) -> Void)?) { self.onNotice = onNotice }

    func take(_ result: OpaquePointer) {
        count += 1
        onNotice?(PostgresError(result: result))
    }
}
