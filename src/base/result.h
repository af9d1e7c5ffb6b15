// Errors are values: failures of the outside world (peers, network, arguments) are returned as an Error.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include <pccl/status.h>

namespace pccl {

/// A status code with its reason as text. `code` is never pcclSuccess inside a failed Result.
struct [[nodiscard]] Error {
    pcclResult_t code = pcclInternalError;
    std::string what;
};

/// A value or an Error.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    explicit operator bool() const { return state_.index() == 0; }
    T &value() { return std::get<0>(state_); }
    const T &value() const { return std::get<0>(state_); }
    T &operator*() { return value(); }
    const T &operator*() const { return value(); }
    T *operator->() { return &value(); }
    const T *operator->() const { return &value(); }
    const Error &error() const { return std::get<1>(state_); }

private:
    std::variant<T, Error> state_;
};

/// Success or an Error, for calls without a value.
class [[nodiscard]] Status {
public:
    Status() = default;
    Status(Error error) : error_(std::move(error)) {}

    explicit operator bool() const { return !error_; }
    const Error &error() const { return *error_; }
    pcclResult_t code() const { return error_ ? error_->code : pcclSuccess; }

private:
    std::optional<Error> error_;
};

}  // namespace pccl
