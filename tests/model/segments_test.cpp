// SPDX-License-Identifier: BSD-2-Clause
// What a switch makes of large frames for a port without headers, judged by others: scapy makes the frames, scapy and tshark
// judge what arrives (support/segments.py).
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <sys/wait.h>

#include "support/vale_frames.hpp"

namespace {

using namespace nm::test;
namespace fs = std::filesystem;

struct temporary {
    fs::path path = [] {
        std::string name = (fs::temp_directory_path() / "nm-segments-XXXXXX").string();
        return fs::path(::mkdtemp(name.data()));
    }();
    ~temporary() { fs::remove_all(path); }
};

void write_pcap(const fs::path& to, const std::vector<received>& frames) {
    std::ofstream f(to, std::ios::binary);
    const auto put = [&f](std::uint32_t v) { f.write(reinterpret_cast<const char*>(&v), 4); };
    for (const std::uint32_t v : {0xa1b2c3d4U, 4U << 16 | 2U, 0U, 0U, 262144U, 1U}) put(v);
    for (const auto& r : frames) {
        const auto n = static_cast<std::uint32_t>(r.data.size());
        for (const std::uint32_t v : {0U, 0U, n, n}) put(v);
        f.write(reinterpret_cast<const char*>(r.data.data()), n);
    }
}

/// What the script says, and how it ended.
int judge(const std::string& what, const fs::path& where, std::string& said) {
    // Debian's own python3 first: that is the one that has Debian's scapy.
    const std::string python = fs::exists("/usr/bin/python3") ? "/usr/bin/python3" : "python3";
    const fs::path script = fs::path(NM_TEST_DATA).parent_path() / "support/segments.py";
    const std::string command = python + " '" + script.string() + "' " + what + " '" + where.string() + "' 2>&1";
    std::FILE* p = ::popen(command.c_str(), "r");
    if (p == nullptr) return -1;
    std::array<char, 512> line{};
    said.clear();
    while (std::fgets(line.data(), line.size(), p) != nullptr) said += line.data();
    const int status = ::pclose(p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(segments, scapy_and_tshark_agree) {
    const temporary dir;
    std::string said;
    const int made = judge("make", dir.path, said);
    if (made == 77) GTEST_SKIP() << said;
    ASSERT_EQ(made, 0) << said;
    nm::context ctx;
    test_switch sw(ctx, "vale0");
    nm::open_options headers;
    headers.vnet_hdr = 12;
    auto a = sw.new_port("a", headers), b = sw.new_port("b"), c = sw.new_port("c");
    ASSERT_EQ(c.number(), 2);  // the frames' first byte
    int cases = 0;
    for (;; ++cases) {
        std::ifstream f(dir.path / (std::to_string(cases) + ".frame"), std::ios::binary);
        if (!f) break;
        const std::string all((std::istreambuf_iterator<char>(f)), {});
        send(a, pieces_of(bytes(all.begin(), all.end()), std::vector<std::size_t>(40, 2112)));
        const auto got = receive(c);
        EXPECT_FALSE(got.empty()) << cases;
        write_pcap(dir.path / (std::to_string(cases) + ".pcap"), got);
    }
    EXPECT_GT(cases, 60);
    EXPECT_EQ(judge("check", dir.path, said), 0) << said;
    EXPECT_NE(said.find(" cases, "), std::string::npos) << said;
    expect_conserved(sw);
}

}  // namespace
