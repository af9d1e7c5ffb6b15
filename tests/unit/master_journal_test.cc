// For any damage to its file, the journal returns its last record, the record before it, or an error.
#include "master/journal.h"

#include <filesystem>
#include <fstream>
#include <random>

#include <csignal>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pccl::master {
namespace {

namespace fs = std::filesystem;
using protocol::Record;
using testing::HasSubstr;

class JournalTest : public testing::Test {
protected:
    JournalTest() {
        std::string pattern = (fs::temp_directory_path() / "pccl-journal-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
    }
    ~JournalTest() override { fs::remove_all(folder_); }

    std::string path() const { return folder_ + "/journal"; }
    static Record record(std::uint64_t view) {
        Record record;
        record.run.fill(7);
        record.starts = 1;
        record.view = ViewNumber{view};
        record.next_peer = 65;
        record.members = {{PeerId{1}, GroupId{3}, {1, 2, 3}, {}, 4}, {PeerId{2}, GroupId{3}, {4, 5, 6}, {}, 0}};
        protocol::GroupRecord group;
        group.id = GroupId{3};
        group.view.epoch = ViewNumber{view};
        group.view.ring = {PeerId{1}, PeerId{2}};
        group.synced = true;
        group.revision = 9;
        record.groups = {group};
        record.paths = {{PeerId{1}, PeerId{2}, 940, 930}};
        return record;
    }
    void write(std::uint64_t view) {
        auto journal = Journal::open({path(), false});
        ASSERT_TRUE(journal) << journal.error().what;
        const Status written = (*journal)->write(record(view));
        ASSERT_TRUE(written) << written.error().what;
    }
    std::string refusal() {
        const auto journal = Journal::open({path(), false});
        return journal ? "" : journal.error().what;
    }

    std::string folder_;
};

TEST_F(JournalTest, ReturnsTheLastRecord) {
    write(5);
    write(6);
    const auto journal = Journal::open({path(), false});
    ASSERT_TRUE(journal);
    ASSERT_TRUE((*journal)->record());
    EXPECT_EQ(protocol::encode(*(*journal)->record()), protocol::encode(record(6)));
}

TEST_F(JournalTest, NewJournalHasNoRecord) {
    const auto journal = Journal::open({path(), false});
    ASSERT_TRUE(journal);
    EXPECT_FALSE((*journal)->record());
}

TEST_F(JournalTest, IsReadableByItsOwnerOnly) {
    write(5);
    EXPECT_EQ(fs::status(path()).permissions() & (fs::perms::group_all | fs::perms::others_all), fs::perms::none);
}

TEST_F(JournalTest, IsCreatedWithItsFolder) {
    folder_ += "/some/where";
    write(5);
    EXPECT_TRUE(fs::exists(path()));
    folder_ = fs::path(folder_).parent_path().parent_path();
}

TEST_F(JournalTest, DropsAGroupThatEnded) {
    auto journal = Journal::open({path(), false});
    ASSERT_TRUE(journal);
    ASSERT_TRUE((*journal)->write(record(5)));
    Record empty;
    empty.view = ViewNumber{6};
    ASSERT_TRUE((*journal)->write(empty));
    journal->reset();
    journal = Journal::open({path(), false});
    ASSERT_TRUE(journal);
    EXPECT_TRUE((*journal)->record()->groups.empty());
}

TEST_F(JournalTest, IsRefusedWhenTruncatedAnywhere) {
    write(5);
    const auto whole = fs::file_size(path());
    for (std::uintmax_t size = 0; size < whole; size += size < 128 ? 8 : 509) {
        fs::remove(path());
        write(5);
        fs::resize_file(path(), size);
        EXPECT_THAT(refusal(), AllOf(HasSubstr(path()), HasSubstr("--journal new:"))) << "cut to " << size;
    }
}

TEST_F(JournalTest, FlippedBitsAreRefusedOrHarmless) {
    write(5);
    std::ifstream in(path(), std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), {});
    const auto expected = protocol::encode(record(5));
    std::mt19937_64 random(1);
    int refused = 0;
    for (int i = 0; i < 300; ++i) {
        std::string bytes = whole;
        bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
        std::ofstream(path(), std::ios::binary | std::ios::trunc) << bytes;
        const auto journal = Journal::open({path(), false});
        if (!journal) {
            ++refused;
            EXPECT_THAT(journal.error().what, HasSubstr(path()));
        } else {  // in a byte that nothing reads
            ASSERT_TRUE((*journal)->record()) << i;
            EXPECT_EQ(protocol::encode(*(*journal)->record()), expected) << i;
        }
    }
    EXPECT_GT(refused, 0);
}

TEST_F(JournalTest, NewerFormatIsRefused) {
    write(5);
    sqlite3 *db = nullptr;
    ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 2", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
    EXPECT_THAT(refusal(), AllOf(HasSubstr("newer pccl-master"), HasSubstr("--journal new:")));
}

TEST_F(JournalTest, ForeignFileIsRefusedAndUnchanged) {
    std::ofstream(path())
        << "dear diary, nothing of note happened today, and so on for more than a hundred bytes, which is what it takes";
    EXPECT_THAT(refusal(), HasSubstr("cannot be used"));
    sqlite3 *db = nullptr;
    fs::remove(path());
    ASSERT_EQ(sqlite3_open(path().c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE t (x)", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
    EXPECT_THAT(refusal(), HasSubstr("not a journal of a PCCL master"));
}

TEST_F(JournalTest, SecondProcessIsRefused) {
    const auto first = Journal::open({path(), false});
    ASSERT_TRUE(first);
    const pid_t other = ::fork();
    if (other == 0) ::_exit(refusal().find("in use by another") != std::string::npos ? 0 : 1);
    int status = 0;
    ::waitpid(other, &status, 0);
    EXPECT_EQ(status, 0);
}

TEST_F(JournalTest, NewRenamesTheOldFile) {
    write(5);
    const auto name = parse_journal_name("new:" + path());
    EXPECT_TRUE(name.fresh);
    const auto journal = Journal::open(name);
    ASSERT_TRUE(journal);
    EXPECT_FALSE((*journal)->record());
    int old = 0;
    for (const auto &entry : fs::directory_iterator(folder_))
        old += entry.path().string().find(".old-") != std::string::npos && !entry.path().string().ends_with("-journal");
    EXPECT_EQ(old, 1);
}

/// A process that is killed while it writes leaves one of its records complete.
TEST_F(JournalTest, KilledWriterLeavesACompleteRecord) {
    write(1);
    for (int round = 0; round < 20; ++round) {
        const pid_t writer = ::fork();
        if (writer == 0) {
            auto journal = Journal::open({path(), false});
            for (std::uint64_t view = 2; journal; ++view)
                if (!(*journal)->write(record(view))) ::_exit(1);
            ::_exit(1);
        }
        ::usleep(static_cast<useconds_t>(2000 + round * 700));
        ::kill(writer, SIGKILL);
        ::waitpid(writer, nullptr, 0);
        const auto journal = Journal::open({path(), false});
        ASSERT_TRUE(journal) << journal.error().what;
        const Record &found = *(*journal)->record();
        EXPECT_EQ(protocol::encode(found), protocol::encode(record(found.view.value)));
    }
}

/// Models a full disk: writes beyond the limit fail.
TEST_F(JournalTest, FailedWriteIsAnErrorAndKeepsTheRecord) {
    write(5);
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        auto journal = Journal::open({path(), false});
        const rlimit limit{fs::file_size(path()) + 1024, fs::file_size(path()) + 1024};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        Record large = record(6);
        large.groups[0].schema.resize(2000);
        const Status written = (*journal)->write(large);
        const bool good = !written && written.error().what.find("journal") != std::string::npos;
        ::_exit(good ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    const auto journal = Journal::open({path(), false});
    ASSERT_TRUE(journal) << journal.error().what;
    EXPECT_EQ((*journal)->record()->view, ViewNumber{5});
}

}  // namespace
}  // namespace pccl::master
