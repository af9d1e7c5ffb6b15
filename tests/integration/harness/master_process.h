// A pccl-master with a journal, in a process of its own that the test kills and starts again.
#pragma once

#include "common/child.h"

#include <cstdint>
#include <string>
#include <vector>

namespace pccl::itest {

class MasterProcess {
public:
    /// On a port that stays the same. Its journal and log are in a folder that goes with this object.
    explicit MasterProcess(std::vector<std::string> options = {});
    ~MasterProcess();
    MasterProcess(const MasterProcess &) = delete;
    MasterProcess &operator=(const MasterProcess &) = delete;

    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    std::string folder() const { return folder_; }
    std::string journal() const { return journal_; }
    /// What it has written to its log, all processes together.
    std::string log() const;

    /// Starts it and waits until it serves. Throws with its log if it does not.
    void start();
    /// The same on another port, as if on another machine.
    void start_elsewhere(std::uint16_t port) {
        port_ = port;
        start();
    }
    /// kill -9.
    void kill();
    /// From the next start on. A new file if there is none.
    void use_journal(const std::string &path) { journal_ = path; }

private:
    std::vector<std::string> options_;
    std::uint16_t port_;
    std::string folder_, journal_;
    tools::Child child_;
};

}  // namespace pccl::itest
