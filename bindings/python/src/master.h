// pcclMasterInstance_t for Python.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "runtime.h"

namespace pccl_python {

class Master final : public Resource {
public:
    explicit Master(const pcclMasterConfig_t &config);
    ~Master() override;

    void run();
    /// Does nothing if it has ended.
    void interrupt();
    bool ended() const { return ended_ || closed(); }
    int port() const;

private:
    const char *kind() const override { return "master"; }
    void release() override;

    pcclMasterInstance_t *master_ = nullptr;
    std::thread *watcher_ = nullptr;  ///< waits for the master's end. Not ended in a fork, which has no such thread
    std::atomic<bool> ended_{false};
};

void bind_master(nb::module_ &module);

}  // namespace pccl_python
