// A master is killed and started again. Calls take longer and do not fail.
#include "harness/master_process.h"
#include "harness/outcome_log.h"
#include "harness/reduce.h"
#include "harness/sanitized.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <thread>

#include <sys/mount.h>

namespace pccl::itest {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPeers = 4;

/// The number of times that the master is killed. PCCL_RESTARTS sets another number.
int restarts() {
    const char *wanted = std::getenv("PCCL_RESTARTS");
    return wanted ? std::atoi(wanted) : 15;
}

TEST(Restart, MasterDiesAtAnyTimeAndNoStepFails) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    MasterProcess master;
    World world({.master = master.address()});
    world.join(kPeers);
    std::vector<int> loops;
    std::vector<std::string> logs;
    for (std::size_t i = 0; i < kPeers; ++i) {
        logs.push_back(master.journal() + "." + world[i].name());
        loops.push_back(world[i].start("loop", {{"slot", i}, {"count", 20000}, {"log", logs.back()}, {"thread", 1}}));
    }
    for (int round = 0; round < restarts(); ++round) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 150000));  // random on purpose: any step of the protocol
        master.kill();
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 200000));  // the master's absence, random on purpose
        master.start();
        for (std::size_t i = 0; i < kPeers; ++i) {
            if (world[i].answered(loops[i]))
                FAIL() << world[i].name() << ": " << world[i].finish(loops[i]).dump() << master.log();
        }
    }
    world[0].call("stop_loop");
    std::uint64_t steps = 0;
    for (std::size_t i = 0; i < kPeers; ++i) {
        const Json answer = world[i].finish(loops[i]);
        ASSERT_TRUE(has_code(answer, pcclSuccess)) << master.log();
        EXPECT_EQ(answer.at("lost"), 0) << master.log();
        EXPECT_EQ(answer.at("alone"), 0);
        steps = answer.at("good").get<std::uint64_t>();
        EXPECT_GT(steps, 0U);
        EXPECT_TRUE(agree(read_outcome_log(logs[i]), read_outcome_log(logs[0])));
    }
    std::cout << restarts() << " restarts in " << steps << " steps of " << kPeers << " peers; none failed\n";
}

TEST(Restart, MembershipEndsIfTheMasterStaysAway) {
    MasterProcess master;
    World world({.master = master.address()});
    world.join(2, {.master_limit_ms = 1500});
    // Peer 1 does not call, so peer 0 waits for it.
    const int blocked = world[0].start("reduce", {{"count", 1000}});
    master.kill();
    const Json answer = world[0].finish(blocked);
    EXPECT_TRUE(has_code(answer, pcclMasterConnectionFailed));
    EXPECT_TRUE(answer.value("send_intact", true)) << answer.dump();
    EXPECT_THAT(answer.at("error").get<std::string>(), testing::HasSubstr("the master has been away for"));
    const Json after = world[1].call("update", {});
    EXPECT_TRUE(has_code(after, pcclMasterConnectionFailed));

    master.start();
    world.join_all(2);
    EXPECT_TRUE(all_have_code(world.call_all("reduce", {{"count", 1000}}), pcclSuccess));
}

TEST(Restart, NewcomerIsAdmittedByTheNewMaster) {
    MasterProcess master;
    World world({.master = master.address()});
    world.join(2);
    PeerProcess &newcomer = world.spawn();
    const int connecting = newcomer.start("connect");
    while (world[0].call("pending").at("pending") != "1" || world[1].call("pending").at("pending") != "1") {
    }
    master.kill();
    master.start();
    const int first = world[0].start("join", {{"world", 3}}), second = world[1].start("join", {{"world", 3}});
    EXPECT_TRUE(has_code(newcomer.finish(connecting), pcclSuccess)) << master.log();
    EXPECT_TRUE(has_code(world[0].finish(first), pcclSuccess));
    EXPECT_TRUE(has_code(world[1].finish(second), pcclSuccess));
}

TEST(Restart, WaitingCallsContinue) {
    MasterProcess master;
    World world({.master = master.address()});
    world.join(3);
    const int update = world[0].start("update");
    const int other = world[1].start("update");
    master.kill();
    master.start();
    EXPECT_TRUE(has_code(world[2].call("update"), pcclSuccess));
    EXPECT_TRUE(has_code(world[0].finish(update), pcclSuccess));
    EXPECT_TRUE(has_code(world[1].finish(other), pcclSuccess));

    const int reduce = world[0].start("reduce", {{"count", 1000}});
    master.kill();
    const int second = world[1].start("reduce", {{"count", 1000}});
    const int third = world[2].start("reduce", {{"count", 1000}});
    master.start();
    for (const auto &[peer, call] : {std::pair{0, reduce}, std::pair{1, second}, std::pair{2, third}})
        EXPECT_TRUE(has_code(world[static_cast<std::size_t>(peer)].finish(call), pcclSuccess)) << master.log();
}

TEST(Restart, PeerDiesWhileTheMasterIsAway) {
    MasterProcess master({"--recovery-window", "1s"});
    World world({.master = master.address()});
    world.join(3);
    master.kill();
    const int first = world[0].start("reduce", {{"count", 1000}});
    const int second = world[1].start("reduce", {{"count", 1000}});
    world[2].kill();
    master.start();
    EXPECT_TRUE(has_code(world[0].finish(first), pcclRankConnectionLost)) << master.log();
    EXPECT_TRUE(has_code(world[1].finish(second), pcclRankConnectionLost)) << master.log();
    world.erase(2);
    EXPECT_TRUE(all_have_code(world.call_all("reduce", {{"count", 1000}}), pcclSuccess));
    EXPECT_THAT(master.log(), testing::HasSubstr("did not come back to the restarted master"));
}

TEST(Restart, MasterMovesToAnotherAddressWithItsJournal) {
    MasterProcess master;
    const std::uint16_t elsewhere = free_port();
    World world({.master = "127.0.0.1:" + std::to_string(elsewhere) + "," +
                           master.address()});  // nothing listens at the first address yet
    world.join(2);
    master.kill();
    master.start_elsewhere(elsewhere);
    EXPECT_TRUE(all_have_code(world.call_all("reduce", {{"count", 1000}}), pcclSuccess)) << master.log();
}

TEST(Restart, FullDiskOfTheJournalStopsNoPeer) {
    MasterProcess master;
    master.kill();
    const std::string disk = master.folder() + "/disk";
    std::filesystem::create_directory(disk);
    if (::mount("none", disk.c_str(), "tmpfs", 0, "size=128k") != 0) GTEST_SKIP() << "mounting a small file system needs root";
    struct Unmount {
        const std::string &disk;
        ~Unmount() { ::umount2(disk.c_str(), MNT_DETACH); }
    } const unmount{disk};
    master.use_journal(disk + "/journal");
    master.start();
    World world({.master = master.address()});
    world.join(2);
    {
        std::ofstream filler(disk + "/filler");
        while (filler << std::string(4096, 'x') << std::flush) {
        }
    }
    world.spawn();
    world.join_all(3);  // the master cannot write this view to its journal
    EXPECT_TRUE(all_have_code(world.call_all("reduce", {{"count", 1000}}), pcclSuccess));
    EXPECT_THAT(master.log(), testing::HasSubstr("The run continues, but could not be resumed"));
    std::filesystem::remove(disk + "/filler");
    while (master.log().find("can be written again") == std::string::npos)
        std::this_thread::sleep_for(Millis(20));
    master.kill();
    master.start();
    EXPECT_TRUE(all_have_code(world.call_all("reduce", {{"count", 1000}}), pcclSuccess)) << master.log();
}

TEST(Restart, DamagedJournalIsRefusedWithAdvice) {
    MasterProcess master;
    World world({.master = master.address()});
    world.join(2);
    master.kill();
    std::filesystem::resize_file(master.journal(), std::filesystem::file_size(master.journal()) / 2);
    EXPECT_THROW(master.start(), std::runtime_error);
    EXPECT_THAT(master.log(), testing::HasSubstr("--journal new:" + master.journal()));
}

}  // namespace
}  // namespace pccl::itest
