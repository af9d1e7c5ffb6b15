// Owners of the C API's handles, and an exception with the library's error text. For programs only: the library throws no
// exception.
#pragma once

#include <pccl.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace pccl::tools {

/// A failed call: its name, its code, and pcclGetLastError of the calling thread.
class CallFailed : public std::runtime_error {
public:
    CallFailed(const char *call, pcclResult_t result)
        : std::runtime_error(std::string(call) + " failed: " + pcclGetErrorString(result) + detail()), result_(result) {}
    pcclResult_t result() const { return result_; }

private:
    pcclResult_t result_;
    static std::string detail() {
        const std::string words = pcclGetLastError();
        return words.empty() ? words : ". " + words;
    }
};

inline void require(const char *call, pcclResult_t result) {
    if (result != pcclSuccess) throw CallFailed(call, result);
}

struct CommDeleter {
    void operator()(pcclComm_t *comm) const { static_cast<void>(pcclDestroyCommunicator(comm)); }
};
using Comm = std::unique_ptr<pcclComm_t, CommDeleter>;

struct MasterDeleter {
    void operator()(pcclMasterInstance_t *master) const { static_cast<void>(pcclDestroyMaster(master)); }
};

/// A running master inside this process.
struct Master {
    std::unique_ptr<pcclMasterInstance_t, MasterDeleter> handle;
    std::uint16_t port = 0;

    /// `config.listen_address` may end in port 0.
    static Master start(const pcclMasterConfig_t &config) {
        Master master;
        pcclMasterInstance_t *handle = nullptr;
        require("pcclCreateMasterWithConfig", pcclCreateMasterWithConfig(&config, &handle));
        master.handle.reset(handle);
        require("pcclMasterGetPort", pcclMasterGetPort(handle, &master.port));
        require("pcclRunMaster", pcclRunMaster(handle));
        return master;
    }
};

inline int attribute(const pcclComm_t *comm, pcclAttribute_t which) {
    int value = 0;
    require("pcclGetAttribute", pcclGetAttribute(comm, which, &value));
    return value;
}

}  // namespace pccl::tools
