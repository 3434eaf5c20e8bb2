// SPDX-License-Identifier: BSD-2-Clause
#include <cerrno>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "../../src/vfio_space.hpp"

// Kernels of Debian 12 have no iommufd: these are the calls as the kernel's documents have them, answered by a few lines.
namespace {

struct call {
    unsigned long request;
    std::vector<std::uint32_t> words;
};
std::vector<call> calls;
unsigned long failing = 0;

// _IO(';', n): direction and size are 0
constexpr unsigned long request(unsigned n) { return 0x3b00UL | n; }
constexpr unsigned bind = 118, attach = 119, alloc = 0x81, ranges = 0x84, map = 0x85, unmap = 0x86;

int fake(int, unsigned long r, void* argument) {
    std::uint32_t size = 0;
    std::memcpy(&size, argument, sizeof size);
    call c{r, std::vector<std::uint32_t>(size / 4)};
    std::memcpy(c.words.data(), argument, size);
    calls.push_back(c);
    auto* const out = static_cast<std::uint32_t*>(argument);
    if (r == failing) {
        errno = r == request(bind) ? EINVAL : EPERM;
        return -1;
    }
    if (r == request(alloc)) out[2] = 42;
    if (r == request(ranges)) {
        const nm::sys::iova_range two[] = {{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}};
        std::uint64_t where = 0;
        std::memcpy(&where, out + 4, sizeof where);
        std::memcpy(reinterpret_cast<void*>(where), two, sizeof two);
        out[2] = 2;
    }
    return 0;
}

nm::result<nm::sys::vfio_opened> open() {
    calls.clear();
    nm::sys::pci_info info;
    info.address = "0000:03:00.0";
    nm::sys::pci::device_nodes nodes;
    nodes.cdev = "/dev/null";
    return nm::sys::open_by_iommufd(info, nodes, {"/dev/null", fake});
}

TEST(Iommufd, BindsAllocatesAttachesMaps) {
    failing = 0;
    auto opened = open();
    ASSERT_TRUE(opened) << opened.error().text;
    ASSERT_EQ(calls.size(), 3U);
    EXPECT_EQ(calls[0].request, request(bind));
    EXPECT_EQ(calls[0].words.size(), 4U);
    EXPECT_EQ(calls[1].request, request(alloc));
    EXPECT_EQ(calls[1].words.size(), 3U);
    EXPECT_EQ(calls[2].request, request(attach));
    EXPECT_EQ(calls[2].words, (std::vector<std::uint32_t>{12, 0, 42}));
    const auto found = opened->space->ranges();
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[1].first, 0xfef00000U);
    EXPECT_EQ(found[1].last, 0x7fffffffffU);
    auto* const memory = reinterpret_cast<void*>(std::uintptr_t{0x7f0000001000});
    EXPECT_EQ(opened->space->map(memory, 0x2000, 0x600000), 0);
    EXPECT_EQ(calls.back().request, request(map));
    EXPECT_EQ(calls.back().words, (std::vector<std::uint32_t>{40, 7, 42, 0, 0x1000, 0x7f00, 0x2000, 0, 0x600000, 0}));
    EXPECT_EQ(opened->space->unmap(0x600000, 0x2000), 0);
    EXPECT_EQ(calls.back().request, request(unmap));
    EXPECT_EQ(calls.back().words, (std::vector<std::uint32_t>{24, 42, 0x600000, 0, 0x2000, 0}));
    failing = request(map);
    EXPECT_EQ(opened->space->map(memory, 0x2000, 0x600000), EPERM);
}

TEST(Iommufd, SaysWhatFailed) {
    failing = request(bind);
    auto r = open();
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code.value(), EBUSY);
    EXPECT_NE(r.error().text.find("0000:03:00.0 is in use"), std::string::npos) << r.error().text;
    failing = request(attach);
    r = open();
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code.value(), EPERM);
}

}  // namespace
