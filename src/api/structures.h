// Structures of the C interface that get more fields in later releases. Each begins with `struct_size`, the size in the caller's
// header. It is smaller than the library's if the caller's header is older, and larger if the header is newer.
//
// Guarantee: nothing beyond the caller's size is read or written. Fields that the caller does not have keep their defaults.
// Fields that this library does not have must be zero, because it cannot obey them. Any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include <pccl/pccl.h>

#include "api/arguments.h"
#include "api/state.h"

namespace pccl::api {

/// Properties of a structure: its names, its smallest valid size, its size in release 2.0.0, and the defaults that are not zero.
template <class T> struct Growing;

template <> struct Growing<pcclCommConfig_t> {
    static constexpr const char *name = "pcclCommConfig_t", *init = "pcclCommConfigInit";
    static constexpr std::size_t least = offsetof(pcclCommConfig_t, peer_group);
    static constexpr std::size_t end_in_2_0_0 = offsetof(pcclCommConfig_t, island_peers) + sizeof(pcclCommConfig_t::island_peers);
    static void set_defaults(pcclCommConfig_t &) {}
};

template <> struct Growing<pcclMasterConfig_t> {
    static constexpr const char *name = "pcclMasterConfig_t", *init = "pcclMasterConfigInit";
    static constexpr std::size_t least = offsetof(pcclMasterConfig_t, heartbeat_timeout_ms);
    static constexpr std::size_t end_in_2_0_0 =
        offsetof(pcclMasterConfig_t, remove_stragglers_after_ms) + sizeof(pcclMasterConfig_t::remove_stragglers_after_ms);
    static void set_defaults(pcclMasterConfig_t &);
};

template <> struct Growing<pcclReduceOptions_t> {
    static constexpr const char *name = "pcclReduceOptions_t", *init = "pcclReduceOptionsInit";
    static constexpr std::size_t least = offsetof(pcclReduceOptions_t, quantization_block);
    static constexpr std::size_t end_in_2_0_0 =
        offsetof(pcclReduceOptions_t, on_peer_loss) + sizeof(pcclReduceOptions_t::on_peer_loss);
    static void set_defaults(pcclReduceOptions_t &) {}
};

template <> struct Growing<pcclReduceReport_t> {
    static constexpr const char *name = "pcclReduceReport_t", *init = "pcclReduceReportInit";
    static constexpr std::size_t least = offsetof(pcclReduceReport_t, tx_bytes);
    static constexpr std::size_t end_in_2_0_0 =
        offsetof(pcclReduceReport_t, saved_tx_bytes) + sizeof(pcclReduceReport_t::saved_tx_bytes);
    static void set_defaults(pcclReduceReport_t &) {}
};

/// Returns `sizeof` in release 2.0.0. Programs that call an Init function without a size have at least this size.
template <class T> constexpr std::size_t size_in_2_0_0() {
    constexpr std::size_t size = (Growing<T>::end_in_2_0_0 + alignof(T) - 1) / alignof(T) * alignof(T);
    constexpr int version = PCCL_VERSION_MAJOR * 10000 + PCCL_VERSION_MINOR * 100 + PCCL_VERSION_PATCH;
    static_assert(size == sizeof(T) || (size < sizeof(T) && version > 20000),
                  "the structure has grown before 2.0.0 was out: name its last field in end_in_2_0_0");
    return size;
}

/// A larger `struct_size` was never set: no release has such a structure.
inline constexpr std::size_t kLargestStructure = 4096;

/// Returns an error if `struct_size` has not been set.
template <class T> Status check_size(const T &given) {
    const std::size_t size = given.struct_size;
    if (size >= Growing<T>::least && size <= kLargestStructure) return {};
    return invalid(std::string(Growing<T>::name) + ": struct_size is not set (" + std::to_string(size) + "). Call " +
                   Growing<T>::init + " first");
}

/// Sets everything to its default.
template <class T> void set_fresh(T &whole) {
    std::memset(static_cast<void *>(&whole), 0, sizeof whole);  // padding as well: a later release may have a field there
    Growing<T>::set_defaults(whole);
    whole.struct_size = sizeof whole;
}

/// Sets `whole` to the caller's fields, and to defaults for the rest.
template <class T> Status complete(const T &given, T &whole) {
    if (const auto status = check_size(given); !status) return status.error();
    const auto *bytes = reinterpret_cast<const unsigned char *>(&given);
    if (given.struct_size > sizeof given &&
        std::any_of(bytes + sizeof given, bytes + given.struct_size, [](unsigned char byte) { return byte != 0; })) {
        return invalid(std::string(Growing<T>::name) +
                       ": a field is set that this library does not have; the program was built for a newer "
                       "library. Leave that field as " +
                       Growing<T>::init + " sets it, or use the newer library");
    }
    set_fresh(whole);
    std::memcpy(static_cast<void *>(&whole), &given, std::min(given.struct_size, sizeof whole));
    return {};
}

/// Sets `*out`, which has room for `struct_size` bytes, to the defaults.
template <class T> pcclResult_t init(T *out, std::size_t struct_size) {
    return guarded([&] {
        if (!out) return fail(invalid(std::string(Growing<T>::init) + ": the argument is NULL"));
        if (struct_size < Growing<T>::least || struct_size > kLargestStructure) {
            return fail(invalid(std::string(Growing<T>::init) + "Sized: struct_size is " + std::to_string(struct_size) +
                                ", and no release has such a " + Growing<T>::name + ". Pass sizeof(" + Growing<T>::name + ")"));
        }
        T whole;
        set_fresh(whole);
        whole.struct_size = struct_size;
        std::memset(static_cast<void *>(out), 0, struct_size);
        std::memcpy(static_cast<void *>(out), &whole, std::min(struct_size, sizeof whole));
        return pcclSuccess;
    });
}

/// Copies the fields that the caller's header has.
template <class T> void hand_out(const T &whole, T *out) {
    const std::size_t size = out->struct_size;
    std::memcpy(static_cast<void *>(out), &whole, std::min(size, sizeof whole));
    out->struct_size = size;
}

}  // namespace pccl::api
