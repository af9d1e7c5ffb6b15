// A pccl-master with a journal, in a separate process that the test can kill and start again.
#pragma once

#include "common/child.h"

#include <cstdint>
#include <string>
#include <vector>

namespace pccl::itest {

class MasterProcess {
public:
    /// Listens on a port that stays the same. Its journal and log are in a folder that is removed with this object.
    explicit MasterProcess(std::vector<std::string> options = {});
    ~MasterProcess();
    MasterProcess(const MasterProcess &) = delete;
    MasterProcess &operator=(const MasterProcess &) = delete;

    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    std::string folder() const { return folder_; }
    std::string journal() const { return journal_; }
    /// The log of all its processes.
    std::string log() const;

    /// Starts it and waits until it serves. Throws with its log if it does not.
    void start();
    /// As `start`, on another port, as if on another machine.
    void start_elsewhere(std::uint16_t port) {
        port_ = port;
        start();
    }
    /// Kills it with SIGKILL.
    void kill();
    /// Sets the journal of the next start. The file is created if it does not exist.
    void use_journal(const std::string &path) { journal_ = path; }

private:
    std::vector<std::string> options_;
    std::uint16_t port_;
    std::string folder_, journal_;
    tools::Child child_;
};

}  // namespace pccl::itest
