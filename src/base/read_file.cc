// See base/read_file.h.
#include "base/read_file.h"

#include <cerrno>
#include <sstream>

#include <fcntl.h>

#include "base/fd.h"

namespace pccl {

std::string read_file(const std::string &path) {
    const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text;
    char part[4096];
    for (;;) {
        const ssize_t got = file ? ::read(file.get(), part, sizeof part) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return text;
        text.append(part, static_cast<std::size_t>(got));
    }
}

std::vector<long> numbers_in(const std::string &path) {
    std::istringstream text(read_file(path));
    std::vector<long> numbers;
    for (long number = 0; text >> number;)
        numbers.push_back(number);
    return numbers;
}

}  // namespace pccl
