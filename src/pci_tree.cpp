// SPDX-License-Identifier: BSD-2-Clause

#include "pci_tree.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <unistd.h>

#include "nm/base/os.hpp"

namespace nm::sys::pci {
namespace {

int write_file(const std::string& path, std::string_view text) {
    const base::unique_fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!fd) return errno;
    const auto n = ::write(fd.get(), text.data(), text.size());
    return n == static_cast<ssize_t>(text.size()) ? 0 : n < 0 ? errno : EIO;
}

}  // namespace

std::string join(const std::string& folder, std::string_view name) {
    std::string path = folder;
    path += '/';
    path += name;
    return path;
}

std::string link_target(const std::string& path) {
    std::array<char, 4096> to{};
    const auto n = ::readlink(path.c_str(), to.data(), to.size() - 1);
    if (n <= 0) return {};
    const std::string_view whole(to.data(), static_cast<std::size_t>(n));
    return std::string(whole.substr(whole.find_last_of('/') + 1));  // npos + 1 is 0
}

std::string read_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::vector<std::string> entries(const std::string& folder) {
    std::vector<std::string> names;
    DIR* dir = ::opendir(folder.c_str());
    if (dir == nullptr) return names;
    while (const dirent* entry = ::readdir(dir))
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
}

bool exists(const std::string& path) noexcept { return ::access(path.c_str(), F_OK) == 0; }

int put(const tree& t, const std::string& path, std::string_view text) {
    return t.write ? t.write(path, text) : write_file(path, text);
}

std::string folder_of(const tree& t, std::string_view address) { return join(t.sys + "/bus/pci/devices", address); }
std::string driver_of(const tree& t, std::string_view address) { return link_target(folder_of(t, address) + "/driver"); }

}  // namespace nm::sys::pci
