// Small files of the system, such as those in /proc, read whole. The descriptor is close-on-exec. Any thread.
#pragma once

#include <string>
#include <vector>

namespace pccl {

/// "" if it cannot be read.
std::string read_file(const std::string &path);

/// The numbers at the beginning of the file, separated by spaces.
std::vector<long> numbers_in(const std::string &path);

}  // namespace pccl
