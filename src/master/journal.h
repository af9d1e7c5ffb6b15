// The master's record on disk: a small SQLite file with which a new process resumes the run of this one.
//
// Guarantee: after write() has succeeded, open() finds that record even if the process or the machine has crashed. An
// interrupted write leaves the record before it. Only the file's owner can read it, because it holds the members' secrets. A file
// that is damaged, of a newer version or not a PCCL journal is refused. The journal is written when a membership changes or
// shared state was synchronized, never for an operation, and only the values that changed are written.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "protocol/record.h"

struct sqlite3;

namespace pccl::master {

/// "PATH", or "new:PATH": an existing file is renamed, with the time, and a new run begins.
struct JournalName {
    std::string path;
    bool fresh = false;
};
JournalName parse_journal_name(const std::string &text);

class Journal {
public:
    /// Opens or creates the file and its folder, and locks the file against other processes.
    /// Error: pcclInvalidArgument with the file, the problem and the remedy; pcclInternalError if the system does not let this
    /// process write there (permissions, a read-only file system, a full disk).
    static Result<std::unique_ptr<Journal>> open(const JournalName &name);
    ~Journal();

    /// The record that the file held when it was opened; nullopt: none.
    const std::optional<protocol::Record> &record() const { return record_; }
    /// Returns when the record is on disk. Error: the system's text, for example that the disk is full; the file is unchanged.
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
    protocol::NamedValues written_;  ///< the content of the file
};

}  // namespace pccl::master
