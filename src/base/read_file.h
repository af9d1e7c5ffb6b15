// Reads small system files, such as those in /proc. The descriptor is close-on-exec. Any thread.
#pragma once

#include <string>
#include <vector>

namespace pccl {

/// Returns the content, or "" if the file cannot be read.
std::string read_file(const std::string &path);

/// Returns the numbers at the beginning of the file, separated by spaces.
std::vector<long> numbers_in(const std::string &path);

}  // namespace pccl
