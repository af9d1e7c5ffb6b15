// Structures that grow: programs built against an older or a newer header than the library's.
#include <cstddef>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pccl/pccl.h>

#include "api/structures.h"

namespace pccl::api {
namespace {

constexpr unsigned char kGuard = 0xa5;

/// Room for a structure of any header, with guard bytes all over it and behind it.
template <class T> struct Room {
    Room() { std::memset(bytes, kGuard, sizeof bytes); }
    T *get() { return reinterpret_cast<T *>(bytes); }
    /// The first byte at or after `from` that is not a guard byte.
    std::size_t touched_after(std::size_t from) const {
        while (from < sizeof bytes && bytes[from] == kGuard)
            ++from;
        return from;
    }
    bool intact_after(std::size_t from) const { return touched_after(from) == sizeof bytes; }

    alignas(T) unsigned char bytes[sizeof(T) + 256];
};

template <class T> struct Functions;
template <> struct Functions<pcclCommConfig_t> {
    static constexpr auto sized = pcclCommConfigInitSized;
    static constexpr auto plain = pcclCommConfigInit;
    static pcclResult_t macro(pcclCommConfig_t *config) { return pcclCommConfigInit(config); }
};
template <> struct Functions<pcclMasterConfig_t> {
    static constexpr auto sized = pcclMasterConfigInitSized;
    static constexpr auto plain = pcclMasterConfigInit;
    static pcclResult_t macro(pcclMasterConfig_t *config) { return pcclMasterConfigInit(config); }
};
template <> struct Functions<pcclReduceOptions_t> {
    static constexpr auto sized = pcclReduceOptionsInitSized;
    static constexpr auto plain = pcclReduceOptionsInit;
    static pcclResult_t macro(pcclReduceOptions_t *options) { return pcclReduceOptionsInit(options); }
};
template <> struct Functions<pcclReduceReport_t> {
    static constexpr auto sized = pcclReduceReportInitSized;
    static constexpr auto plain = pcclReduceReportInit;
    static pcclResult_t macro(pcclReduceReport_t *report) { return pcclReduceReportInit(report); }
};

template <class T> class Structure : public ::testing::Test {};
using Structures = ::testing::Types<pcclCommConfig_t, pcclMasterConfig_t, pcclReduceOptions_t, pcclReduceReport_t>;
TYPED_TEST_SUITE(Structure, Structures);

TYPED_TEST(Structure, AnySizeIsSetToItsEndAndNoFurther) {
    using T = TypeParam;
    T whole;
    set_fresh(whole);
    for (std::size_t size = Growing<T>::least; size <= sizeof(T) + 128; ++size) {
        Room<T> room;
        ASSERT_EQ(Functions<T>::sized(room.get(), size), pcclSuccess) << size << ": " << pcclGetLastError();
        EXPECT_TRUE(room.intact_after(size)) << size << ": byte " << room.touched_after(size) << " was written";
        EXPECT_EQ(room.get()->struct_size, size);
        const std::size_t known = std::min(size, sizeof(T));
        EXPECT_EQ(std::memcmp(room.bytes + sizeof(std::size_t),
                              reinterpret_cast<const unsigned char *>(&whole) + sizeof(std::size_t), known - sizeof(std::size_t)),
                  0)
            << size << ": not the defaults";
        for (std::size_t i = known; i < size; ++i)
            EXPECT_EQ(room.bytes[i], 0) << size << ": byte " << i << " of a newer header";
    }
}

TYPED_TEST(Structure, UnknownSizeIsRefusedAndUntouched) {
    using T = TypeParam;
    for (const std::size_t size : {std::size_t{0}, Growing<T>::least - 1, kLargestStructure + 1, ~std::size_t{0}}) {
        Room<T> room;
        EXPECT_EQ(Functions<T>::sized(room.get(), size), pcclInvalidArgument) << size;
        EXPECT_THAT(pcclGetLastError(), ::testing::HasSubstr(Growing<T>::name));
        EXPECT_TRUE(room.intact_after(0)) << size;
    }
    EXPECT_EQ(Functions<T>::sized(nullptr, sizeof(T)), pcclInvalidArgument);
    EXPECT_EQ(Functions<T>::plain(nullptr), pcclInvalidArgument);
}

TYPED_TEST(Structure, IsSetByTheFunctionWithoutASizeAsInTheFirstRelease) {
    using T = TypeParam;
    Room<T> room;
    ASSERT_EQ(Functions<T>::plain(room.get()), pcclSuccess);
    EXPECT_TRUE(room.intact_after(size_in_2_0_0<T>()));
    EXPECT_EQ(room.get()->struct_size, size_in_2_0_0<T>());
}

TYPED_TEST(Structure, IsSetByTheMacroAsInTheCallersHeader) {
    using T = TypeParam;
    Room<T> room;
    ASSERT_EQ(Functions<T>::macro(room.get()), pcclSuccess);
    EXPECT_TRUE(room.intact_after(sizeof(T)));
    EXPECT_EQ(room.get()->struct_size, sizeof(T));
}

TYPED_TEST(Structure, IsReadToItsEndAndNoFurther) {
    using T = TypeParam;
    T whole;
    set_fresh(whole);
    for (std::size_t size = Growing<T>::least; size <= sizeof(T); ++size) {
        Room<T> room;
        ASSERT_EQ(Functions<T>::sized(room.get(), size), pcclSuccess);
        T read;
        const auto status = complete(*room.get(), read);
        ASSERT_TRUE(status) << size << ": " << status.error().what;
        const auto *bytes = reinterpret_cast<const unsigned char *>(&read);
        EXPECT_EQ(std::memcmp(bytes + sizeof(std::size_t), reinterpret_cast<const unsigned char *>(&whole) + sizeof(std::size_t),
                              sizeof(T) - sizeof(std::size_t)),
                  0)
            << size << ": fields that the caller does not have are not the defaults";
    }
}

TYPED_TEST(Structure, NewerHeaderIsReadIfItsNewFieldsAreDefaults) {
    using T = TypeParam;
    const std::size_t size = sizeof(T) + 24;
    Room<T> room;
    ASSERT_EQ(Functions<T>::sized(room.get(), size), pcclSuccess);
    T read;
    EXPECT_TRUE(complete(*room.get(), read));
    for (std::size_t i = sizeof(T); i < size; ++i) {
        room.bytes[i] = 1;
        const auto status = complete(*room.get(), read);
        ASSERT_FALSE(status) << i;
        EXPECT_EQ(status.error().code, pcclInvalidArgument);
        EXPECT_THAT(status.error().what, ::testing::HasSubstr("newer"));
        room.bytes[i] = 0;
    }
}

TYPED_TEST(Structure, IsReturnedToItsEndAndNoFurther) {
    using T = TypeParam;
    T whole;
    set_fresh(whole);
    std::memset(reinterpret_cast<unsigned char *>(&whole) + sizeof(std::size_t), 7, sizeof(T) - sizeof(std::size_t));
    for (std::size_t size = Growing<T>::least; size <= sizeof(T) + 128; ++size) {
        Room<T> room;
        ASSERT_EQ(Functions<T>::sized(room.get(), size), pcclSuccess);
        hand_out(whole, room.get());
        EXPECT_TRUE(room.intact_after(size)) << size;
        EXPECT_EQ(room.get()->struct_size, size);
        EXPECT_EQ(room.bytes[std::min(size, sizeof(T)) - 1], 7) << size;
    }
}

}  // namespace
}  // namespace pccl::api
