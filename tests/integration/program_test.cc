// Runs the programs in the environments of init scripts, cron jobs and containers: closed standard streams, no writable folder,
// no answer from the name server.
#include "common/child.h"
#include "harness/raw_client.h"
#include "harness/world.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace pccl::itest {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

std::string program(const char *name) { return (fs::path(tools::self_path()).parent_path() / name).string(); }

/// A shell command in a separate process.
tools::Child shell(const std::string &command) {
    return tools::Child::spawn({"/bin/sh", "-c", command}, {.capture_stdout = true, .pipe_stdin = false, .stderr_file = {}});
}

/// The output of the child up to a line that contains `until`, or up to its end.
std::string output_of(tools::Child &child, const std::string &until = "") {
    std::string text;
    char byte = 0;
    while (::read(child.output(), &byte, 1) == 1) {
        text += byte;
        if (byte == '\n' && !until.empty() && text.find(until) != std::string::npos) break;
    }
    return text;
}

bool ends_well(tools::Child &child) {
    const auto status = child.wait(Millis(20000));
    return status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

int exit_status(tools::Child &child) {
    const auto status = child.wait(Millis(20000));
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
}

bool is_root() { return ::geteuid() == 0; }

class Folder {
public:
    Folder() {
        std::string pattern = (fs::temp_directory_path() / "pccl-program-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
        fs::permissions(path_, fs::perms::all);
    }
    ~Folder() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    std::string operator/(const std::string &name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

/// The output of pccl-master, started as `before` pccl-master `options`, until it serves or ends.
struct Started {
    std::string said;
    bool serves = false;
    tools::Child child;
};
Started start_master(const std::string &before, const std::string &options) {
    Started started;
    started.child = shell("exec " + before + " " + program("pccl-master") + " " + options + " 2>&1");
    started.said = output_of(started.child, "listening on");
    started.serves = started.said.find("listening on") != std::string::npos;
    return started;
}

TEST(Program, MasterServesWithoutStandardStreams) {
    for (const char *closed : {"<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"}) {
        const Folder folder;
        const std::uint16_t port = free_port();
        auto child = shell("exec " + program("pccl-master") + " --listen 127.0.0.1:" + std::to_string(port) + " --journal " +
                           (folder / "journal") + " --log-level DEBUG " + closed);
        const auto end = std::chrono::steady_clock::now() + kAnswerLimit;
        while (!RawClient(port).valid() && child.running() && std::chrono::steady_clock::now() < end)
            std::this_thread::sleep_for(Millis(5));  // polls the port
        EXPECT_TRUE(child.running()) << closed;
        child.signal(SIGTERM);
        EXPECT_TRUE(ends_well(child)) << closed << ": " << tools::describe_status(child.status().value_or(0));
    }
}

TEST(Program, PerfMeasuresWithoutStandardStreams) {
    for (const char *closed : {"<&-", ">&-", "2>&-", "<&- >&- 2>&-"}) {
        auto child = shell("exec " + program("pccl-perf") + " -t 2 -b 4K -e 4K -n 2 -w 2 " + closed);
        EXPECT_TRUE(ends_well(child)) << closed << ": " << tools::describe_status(child.status().value_or(0));
    }
}

TEST(Program, MasterWithoutAJournalFolderWarnsAndServes) {
    const std::string listen = "--listen 127.0.0.1:" + std::to_string(free_port());
    for (const char *surroundings :
         {"env HOME=/dev/null", "env -u HOME", "env HOME=", "env XDG_STATE_HOME=/dev/null", "env STATE_DIRECTORY=/proc"}) {
        auto master = start_master("env -u XDG_STATE_HOME -u STATE_DIRECTORY " + std::string(surroundings), listen);
        EXPECT_TRUE(master.serves) << surroundings << ": " << master.said;
        for (const char *words : {"warning: no journal is kept", "--journal FILE", "XDG_STATE_HOME", "--no-journal"})
            EXPECT_THAT(master.said, HasSubstr(words)) << surroundings;
        master.child.signal(SIGTERM);
        EXPECT_TRUE(ends_well(master.child));
    }
}

TEST(Program, MasterInTheHomeOfAnotherUserWarnsAndServes) {
    if (!is_root()) GTEST_SKIP() << "taking another user's id needs root";
    const std::string listen = "--listen 127.0.0.1:" + std::to_string(free_port());
    const std::string another = "setpriv --reuid 12345 --regid 0 --clear-groups env -u XDG_STATE_HOME -u STATE_DIRECTORY ";
    const Folder home;
    auto first = start_master("env XDG_STATE_HOME=" + (home / "state"), listen);  // root's journal, which others cannot read
    ASSERT_TRUE(first.serves) << first.said;
    first.child.signal(SIGTERM);
    ASSERT_TRUE(ends_well(first.child));
    fs::permissions(home / "state", fs::perms::all);
    fs::permissions(home / "state/pccl", fs::perms::all);
    for (const std::string &place : {std::string("HOME=/"), "XDG_STATE_HOME=" + (home / "state")}) {
        auto master = start_master(another + place, listen);
        EXPECT_TRUE(master.serves) << place << ": " << master.said;
        EXPECT_THAT(master.said, HasSubstr("warning: no journal is kept")) << place;
        master.child.signal(SIGTERM);
        EXPECT_TRUE(ends_well(master.child));
    }
}

TEST(Program, MasterOnAFullOrReadOnlyDiskWarnsAndServes) {
    const std::string namespaces = "unshare -m ";
    if (!is_root() || exit_status(*std::make_unique<tools::Child>(shell(namespaces + "true"))) != 0)
        GTEST_SKIP() << "mounting a file system is not permitted here";
    const std::string listen = "--listen 127.0.0.1:" + std::to_string(free_port());
    const Folder folder;
    for (const char *prepare :
         {"mount -t tmpfs -o size=8k,nr_inodes=20 none $place; dd if=/dev/zero of=$place/full bs=4k 2>/dev/null",
          "mount -t tmpfs -o ro none $place"}) {
        const std::string script = "place=" + (folder / "") + "; " + prepare + "; exec env XDG_STATE_HOME=$place " +
                                   program("pccl-master") + " " + listen + " 2>&1";
        auto master = start_master(namespaces + "sh -c '" + script + "' sh", "");
        EXPECT_TRUE(master.serves) << prepare << ": " << master.said;
        EXPECT_THAT(master.said, HasSubstr("warning: no journal is kept")) << prepare;
        master.child.signal(SIGTERM);
        EXPECT_TRUE(ends_well(master.child));
    }
}

TEST(Program, MasterEndsIfItsNamedJournalCannotBeWritten) {
    const std::string listen = "--listen 127.0.0.1:" + std::to_string(free_port());
    for (const char *name : {"/dev/null/journal", "new:/dev/null/journal"}) {
        auto master = start_master("", listen + " --journal " + name);
        EXPECT_FALSE(master.serves) << name;
        EXPECT_THAT(master.said, HasSubstr("/dev/null/journal"));
        EXPECT_EQ(exit_status(master.child), 1);
    }
}

TEST(Program, MasterEndsIfItsDefaultJournalIsDamaged) {
    const Folder home;
    const std::uint16_t port = free_port();
    fs::create_directories(home / "pccl");
    std::ofstream(home / ("pccl/master-" + std::to_string(port) + ".journal")) << "no journal";
    auto master =
        start_master("env -u STATE_DIRECTORY XDG_STATE_HOME=" + (home / ""), "--listen 127.0.0.1:" + std::to_string(port));
    EXPECT_FALSE(master.serves);
    EXPECT_THAT(master.said, HasSubstr("--journal new:"));
    EXPECT_EQ(exit_status(master.child), 1);
}

TEST(Program, MasterAtAnyFreePortNeedsNoJournal) {
    auto master = start_master("env HOME=/dev/null", "--listen 127.0.0.1:0");
    EXPECT_TRUE(master.serves);
    EXPECT_THAT(master.said, Not(HasSubstr("warning")));
}

TEST(Program, MasterAtATakenPortNamesItsHolder) {
    auto first = start_master("", "--listen 127.0.0.1:0");
    ASSERT_TRUE(first.serves);
    const auto colon = first.said.rfind(':');
    auto second =
        start_master("", "--no-journal --listen 127.0.0.1" + first.said.substr(colon, first.said.find('\n', colon) - colon));
    EXPECT_THAT(second.said, HasSubstr("process " + std::to_string(first.child.pid()) + " (pccl-master) listens there"));
    EXPECT_EQ(exit_status(second.child), 1);
}

TEST(Program, MasterListensAtAnAddressWithAZone) {
    auto master = start_master("", "--listen '[::1%lo]:0'");
    EXPECT_THAT(master.said, HasSubstr("listening on [::1%lo]:"));
    auto unknown = start_master("", "--listen '[fe80::1%no-such-if]:0'");
    EXPECT_FALSE(unknown.serves);
    EXPECT_THAT(unknown.said, HasSubstr("no network interface of this host is named \"no-such-if\""));
    EXPECT_EQ(exit_status(unknown.child), 1);
}

TEST(Program, MasterEndsOnASignalWhileItsNameIsResolved) {
    const std::string namespaces = "unshare -n -m ";
    if (!is_root() || exit_status(*std::make_unique<tools::Child>(shell(namespaces + "true"))) != 0)
        GTEST_SKIP() << "network namespaces are not permitted here";
    const Folder folder;
    const std::string script =
        "echo nameserver 10.99.0.1 > " + (folder / "resolv") + "; mount --bind " + (folder / "resolv") +
        " /etc/resolv.conf; ip link add v0 type veth peer name v1; ip addr add 10.99.0.2/24 dev v0; ip link set v0 up; "
        "ip link set v1 up; ip neigh replace 10.99.0.1 lladdr 02:11:22:33:44:55 dev v0 nud permanent; echo ready; exec " +
        program("pccl-master") + " --no-journal --listen slow.example:48148";
    auto child = shell("exec " + namespaces + "sh -c '" + script + "'");
    EXPECT_THAT(output_of(child, "ready"), HasSubstr("ready"));
    // The thread of the resolver exists once the master waits for the name with signals blocked.
    const std::string tasks = "/proc/" + std::to_string(child.pid()) + "/task";
    const auto threads = [&] { return std::distance(fs::directory_iterator(tasks), fs::directory_iterator()); };
    const auto end = std::chrono::steady_clock::now() + kAnswerLimit;
    while (threads() < 2 && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(Millis(1));  // polls the number of threads
    const auto begin = std::chrono::steady_clock::now();
    child.signal(SIGTERM);
    EXPECT_TRUE(ends_well(child)) << tools::describe_status(child.status().value_or(0));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, Millis(2000));
}

}  // namespace
}  // namespace pccl::itest
