// The master's record on disk: a small SQLite file that a new process starts from when this one is gone.
//
// Guarantee: once write() has succeeded, open() finds that record, whatever happened to the process or the machine since; a write that
// was cut short leaves the one before. Only its owner may read it: it holds what proves who is a member. A file that is damaged, of a newer version or not ours is refused, never guessed at. Written
// when a membership changes or shared state was synchronized, never for an operation; only the values that changed.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "protocol/record.h"

struct sqlite3;

namespace pccl::master {

/// "PATH", or "new:PATH": what is there is set aside (renamed, with the time) and a new run begins.
struct JournalName {
    std::string path;
    bool fresh = false;
};
JournalName parse_journal_name(const std::string &text);

class Journal {
public:
    /// Opens or makes the file, which no other process may use at the same time, and its folder.
    /// Error: pcclInvalidArgument with the file, what is wrong with it and what to do; pcclInternalError where the system does
    /// not let this process write there (permissions, a read-only file system, a full disk).
    static Result<std::unique_ptr<Journal>> open(const JournalName &name);
    ~Journal();

    /// As it was opened; nullopt: nothing has been written yet.
    const std::optional<protocol::Record> &record() const { return record_; }
    /// Returns once it is safe on disk. Error: the system's words (disk full, say); the file holds what it held.
    Status write(const protocol::Record &record);
    const std::string &path() const { return path_; }

private:
    Journal(sqlite3 *db, std::string path) : db_(db), path_(std::move(path)) {}
    Status begin();
    Status load();
    Status put(const std::string &key, const wire::Bytes &value);
    Status drop(const std::string &key);
    Status run(const char *sql);
    Error damaged(const std::string &what) const;
    Error failed(const std::string &what) const;

    sqlite3 *db_;
    std::string path_;
    std::optional<protocol::Record> record_;
    protocol::NamedValues written_;  ///< what the file holds
};

}  // namespace pccl::master
