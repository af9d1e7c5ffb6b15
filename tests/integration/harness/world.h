// A master inside the test process and peers in separate processes.
#pragma once

#include "common/handles.h"
#include "harness/peer_process.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace pccl::itest {

struct WorldOptions {
    std::string host = "127.0.0.1";
    std::uint32_t heartbeat_timeout_ms = 0;  ///< 0: the default
    std::uint32_t misuse_grace_ms = 0;
    std::string master = {};                       ///< address of a master that the test runs itself; empty: one inside the test
    std::uint32_t remove_stragglers_after_ms = 0;  ///< 0: never
};

/// Settings of a peer.
struct PeerOptions {
    int group = 0;
    int lanes = 0;
    int port = 0;                ///< to listen on; 0: the library's default range
    int compression = 0;         ///< a pcclCompression_t; 0: $PCCL_TEST_COMPRESSION, by default auto
    int master_limit_ms = 0;     ///< limit of the peer's wait for a lost master; 0: the default
    std::string advertise = {};  ///< address for other peers; empty: as the master sees it
};

class World {
public:
    explicit World(const WorldOptions &options = {});

    std::string master_address() const;
    std::uint16_t master_port() const { return master_.port; }

    /// A peer with a communicator that is not connected.
    PeerProcess &spawn(const PeerOptions &options = {});
    /// Spawns `count` peers and joins them. Returns when all see the whole world.
    void join(int count, const PeerOptions &options = {});
    /// Connects the spawned peers while the members update the topology. Returns when all see `world` peers.
    void join_all(int world);

    PeerProcess &operator[](std::size_t i) { return *peers_.at(i); }
    std::size_t size() const { return peers_.size(); }
    /// Kills a peer and removes it from the list.
    void erase(std::size_t i) { peers_.erase(peers_.begin() + static_cast<std::ptrdiff_t>(i)); }

    /// Makes the same call at every peer at the same time. Returns the answers in the order of the peers.
    std::vector<Json> call_all(const std::string &call, const Json &arguments = Json::object(), Millis limit = kAnswerLimit);
    /// As call_all, with arguments for each.
    std::vector<Json> call_each(const std::string &call, const std::vector<Json> &arguments, Millis limit = kAnswerLimit);

    tools::Master &master() { return master_; }

private:
    std::string host_;
    std::string elsewhere_;  ///< address of a master that the test runs itself
    tools::Master master_;
    std::vector<std::unique_ptr<PeerProcess>> peers_;
    int spawned_ = 0;
};

/// A TCP port that was free at the time of the call.
std::uint16_t free_port();

/// Whether every answer has that code. If not, prints the peer and its error.
::testing::AssertionResult all_have_code(const std::vector<Json> &answers, pcclResult_t expected);
/// Whether all succeeded with the same value of `key`.
::testing::AssertionResult all_same(const std::vector<Json> &answers, const char *key);
::testing::AssertionResult has_code(const Json &answer, pcclResult_t expected);

}  // namespace pccl::itest
