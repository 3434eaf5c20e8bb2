// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

namespace nm::test {

/// Removes a folder whose files others may be removing too: a host that leaves takes its own along.
inline void remove_folder(const std::filesystem::path& folder) {
    std::error_code racing;
    for (int tries = 0; tries < 1000 && std::filesystem::exists(folder, racing); ++tries) {
        std::filesystem::remove_all(folder, racing);
        if (racing) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

}  // namespace nm::test
