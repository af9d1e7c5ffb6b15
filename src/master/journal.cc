// See journal.h.
#include "master/journal.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include <sqlite3.h>

#include "kernel/hash.h"

namespace pccl::master {

namespace {

namespace fs = std::filesystem;

constexpr int kApplicationId = 0x5043434c;  // "PCCL"
constexpr int kFormat = 1;
constexpr const char *kSideFiles[] = {"-journal", "-wal", "-shm"};

struct CloseDb {
    void operator()(sqlite3 *db) const { sqlite3_close_v2(db); }
};
struct Finalize {
    void operator()(sqlite3_stmt *statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

Statement prepare(sqlite3 *db, const char *sql) {
    sqlite3_stmt *statement = nullptr;
    sqlite3_prepare_v2(db, sql, -1, &statement, nullptr);
    return Statement(statement);
}

/// The checksum of a key with its value, so that flipped bits and swapped rows are detected.
std::int64_t checksum_of(const std::string &key, std::span<const std::byte> value) {
    wire::Bytes both(reinterpret_cast<const std::byte *>(key.data()),
                     reinterpret_cast<const std::byte *>(key.data()) + key.size());
    both.push_back(std::byte{0});
    both.insert(both.end(), value.begin(), value.end());
    return static_cast<std::int64_t>(kernel::checksum(both.data(), both.size()));
}

/// The first number that a statement returns; nullopt: it failed.
std::optional<std::int64_t> number(sqlite3 *db, const char *sql) {
    const Statement statement = prepare(db, sql);
    if (!statement || sqlite3_step(statement.get()) != SQLITE_ROW) return std::nullopt;
    return sqlite3_column_int64(statement.get(), 0);
}

Status set_aside(const std::string &path) {
    std::error_code error;
    if (!fs::exists(path, error)) return {};
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const std::string old = path + ".old-" + std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
    fs::rename(path, old, error);
    if (error) return Error{pcclInvalidArgument, "cannot rename the journal " + path + ": " + error.message()};
    for (const char *suffix : kSideFiles)
        fs::rename(path + suffix, old + suffix, error);  // usually there is none
    return {};
}

}  // namespace

JournalName parse_journal_name(const std::string &text) {
    constexpr std::string_view kNew = "new:";
    if (text.starts_with(kNew)) return {text.substr(kNew.size()), true};
    return {text, false};
}

Journal::~Journal() { sqlite3_close_v2(db_); }

Error Journal::damaged(const std::string &what) const {
    return {pcclInvalidArgument,
            "the journal " + path_ + " cannot be used: " + what +
                ". Restore it from a copy, or abandon its run and start a new one with --journal new:" + path_};
}

Error Journal::failed(const std::string &what) const {
    const int system = sqlite3_system_errno(db_);
    return {pcclInternalError, "the journal " + path_ + ": " + what + ": " + sqlite3_errmsg(db_) +
                                   (system != 0 ? std::string(" (") + std::strerror(system) + ")" : "")};
}

Status Journal::run(const char *sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failed(sql);
    return {};
}

/// A new file gets its name when it is complete, so that an empty file is always a damaged one.
Result<std::unique_ptr<Journal>> Journal::open(const JournalName &name) {
    const std::string &path = name.path;
    const auto refuse = [&](pcclResult_t code, const std::string &what) {
        return Error{code, "the journal " + path + ": " + what};
    };
    if (path.empty()) return Error{pcclInvalidArgument, "a journal needs a file name"};
    std::error_code error;
    if (const auto folder = fs::path(path).parent_path(); !folder.empty()) fs::create_directories(folder, error);
    if (error) return refuse(pcclInternalError, "cannot create its folder: " + error.message());
    if (name.fresh) {
        if (const Status aside = set_aside(path); !aside) return aside.error();
    }
    const bool existed = fs::exists(path, error);
    if (existed && !fs::is_regular_file(path, error)) return refuse(pcclInvalidArgument, "is not a regular file");
    const bool empty = existed && fs::file_size(path, error) == 0;

    sqlite3 *db = nullptr;
    const std::string first = existed ? path : path + ".new";
    if (!existed) fs::remove(first, error);
    const int opened =
        sqlite3_open_v2(first.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE, nullptr);
    std::unique_ptr<Journal> journal(new Journal(db, path));
    if (opened != SQLITE_OK) return journal->failed("cannot open it");
    if (empty) return journal->damaged("it is empty");
    if (!existed) {
        if (const Status made = journal->begin(); !made) {
            const Error failure = made.error();
            journal.reset();
            fs::remove(first, error);
            return failure;
        }
        // It holds the members' secrets.
        fs::permissions(first, fs::perms::owner_read | fs::perms::owner_write, error);
        journal.reset();
        fs::rename(first, path, error);
        if (error) return refuse(pcclInternalError, "cannot create it: " + error.message());
        return open({path, false});
    }
    if (const Status loaded = journal->load(); !loaded) return loaded.error();
    return journal;
}

Status Journal::begin() {
    const std::string sql =
        "PRAGMA application_id = " + std::to_string(kApplicationId) + "; PRAGMA user_version = " + std::to_string(kFormat) +
        "; PRAGMA synchronous = FULL;" +
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;";
    return run(sql.c_str());
}

Status Journal::load() {
    // The lock is held while this process lives. An interrupted write is rolled back here.
    if (!run("PRAGMA locking_mode = EXCLUSIVE") || !run("BEGIN EXCLUSIVE") || !run("COMMIT")) {
        const int code = sqlite3_errcode(db_);
        if (code == SQLITE_BUSY) return Error{pcclInvalidArgument, "the journal " + path_ + " is in use by another pccl-master"};
        if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT) return damaged(sqlite3_errmsg(db_));
        return failed("cannot lock it");
    }
    const auto application = number(db_, "PRAGMA application_id");
    if (application != kApplicationId) return damaged("it is not a journal of a PCCL master");
    const auto format = number(db_, "PRAGMA user_version").value_or(0);
    if (format > kFormat)
        return damaged("a newer pccl-master wrote it (format " + std::to_string(format) + ", this one supports up to " +
                       std::to_string(kFormat) + ")");
    const Statement check = prepare(db_, "PRAGMA integrity_check(1)");
    if (!check || sqlite3_step(check.get()) != SQLITE_ROW) return damaged(sqlite3_errmsg(db_));
    const std::string verdict = reinterpret_cast<const char *>(sqlite3_column_text(check.get(), 0));
    if (verdict != "ok") return damaged(verdict);
    // TRUNCATE keeps one file that is synced twice per write. A second file (WAL) could be lost unnoticed.
    if (const Status set = run("PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = FULL"); !set) return set;

    const Statement rows = prepare(db_, "SELECT name, value, checksum FROM facts");
    if (!rows) return damaged(sqlite3_errmsg(db_));
    int step = SQLITE_ROW;
    while ((step = sqlite3_step(rows.get())) == SQLITE_ROW) {
        const auto *text = reinterpret_cast<const char *>(sqlite3_column_text(rows.get(), 0));
        const std::string name = text ? text : "";
        const auto *value = static_cast<const std::byte *>(sqlite3_column_blob(rows.get(), 1));
        const auto bytes = static_cast<std::size_t>(sqlite3_column_bytes(rows.get(), 1));
        wire::Bytes &held = written_[name];
        if (bytes > 0) held.assign(value, value + bytes);
        if (checksum_of(name, held) != sqlite3_column_int64(rows.get(), 2))
            return damaged("the checksum of '" + name + "' is wrong");
    }
    if (step != SQLITE_DONE) return damaged(sqlite3_errmsg(db_));
    if (written_.empty()) return {};
    auto record = protocol::decode_record(written_);
    if (!record) return damaged(record.error().what);
    record_ = std::move(*record);
    return {};
}

Status Journal::put(const std::string &key, const wire::Bytes &value) {
    const Statement statement = prepare(db_, "INSERT INTO facts VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET value = "
                                             "excluded.value, checksum = excluded.checksum");
    if (!statement) return failed("cannot write");
    sqlite3_bind_text(statement.get(), 1, key.c_str(), -1, SQLITE_STATIC);
    // SQLite stores a null pointer as NULL instead of an empty blob.
    sqlite3_bind_blob64(statement.get(), 2, value.empty() ? static_cast<const void *>("") : value.data(), value.size(),
                        SQLITE_STATIC);
    sqlite3_bind_int64(statement.get(), 3, checksum_of(key, value));
    if (sqlite3_step(statement.get()) != SQLITE_DONE) return failed("cannot write");
    return {};
}

Status Journal::drop(const std::string &key) {
    const Statement statement = prepare(db_, "DELETE FROM facts WHERE name = ?");
    if (!statement) return failed("cannot write");
    sqlite3_bind_text(statement.get(), 1, key.c_str(), -1, SQLITE_STATIC);
    if (sqlite3_step(statement.get()) != SQLITE_DONE) return failed("cannot write");
    return {};
}

Status Journal::write(const protocol::Record &record) {
    protocol::NamedValues values = protocol::encode(record);
    const auto changes = [&]() -> Status {
        if (const Status begun = run("BEGIN IMMEDIATE"); !begun) return begun;
        for (const auto &[key, value] : values) {
            const auto held = written_.find(key);
            if (held != written_.end() && held->second == value) continue;
            if (const Status put_in = put(key, value); !put_in) return put_in;
        }
        for (const auto &[key, value] : written_) {
            if (values.contains(key)) continue;
            if (const Status dropped = drop(key); !dropped) return dropped;
        }
        return run("COMMIT");
    };
    if (const Status written = changes(); !written) {
        sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
        return written;
    }
    written_ = std::move(values);
    return {};
}

}  // namespace pccl::master
