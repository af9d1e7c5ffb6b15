// The log: one line per message on standard error, at the level of PCCL_LOG_LEVEL (default WARN). Thread-safe. Nothing depends on
// the log.
#pragma once

#include <string_view>

#if defined(__GNUC__)
#define PCCL_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PCCL_PRINTF(text, first)
#endif

namespace pccl {

enum class LogLevel { debug, info, warn, error, fatal, off };

/// Sets the level by its name in PCCL_LOG_LEVEL, in any case. Returns false and keeps the level if `name` is unknown.
bool set_log_level(std::string_view name);
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);

/// As printf. Truncates a message at 2 KiB and replaces control characters (which may come from the wire) by '?'.
void log(LogLevel level, const char *format, ...) PCCL_PRINTF(2, 3);

}  // namespace pccl

#define PCCL_LOG_DEBUG(...)                                                                                                      \
    (::pccl::log_enabled(::pccl::LogLevel::debug) ? ::pccl::log(::pccl::LogLevel::debug, __VA_ARGS__) : void())
#define PCCL_LOG_INFO(...)                                                                                                       \
    (::pccl::log_enabled(::pccl::LogLevel::info) ? ::pccl::log(::pccl::LogLevel::info, __VA_ARGS__) : void())
#define PCCL_LOG_WARN(...)                                                                                                       \
    (::pccl::log_enabled(::pccl::LogLevel::warn) ? ::pccl::log(::pccl::LogLevel::warn, __VA_ARGS__) : void())
#define PCCL_LOG_ERROR(...)                                                                                                      \
    (::pccl::log_enabled(::pccl::LogLevel::error) ? ::pccl::log(::pccl::LogLevel::error, __VA_ARGS__) : void())
