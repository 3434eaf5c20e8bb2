// SPDX-License-Identifier: BSD-2-Clause
// Whether the model of an e1000e does what QEMU's e1000e did.
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

#include "support/nic_trace.hpp"

namespace {

using namespace nm::test;

std::string recorded() {
    std::ifstream in(std::string(NM_TEST_DATA) + "/e1000e-qemu.trace");
    std::stringstream s;
    s << in.rdbuf();
    return s.str();
}

TEST(nic_trace, the_model_does_what_qemus_device_did) {
    const std::string trace = recorded();
    ASSERT_FALSE(trace.empty());
    const auto r = nic_replay(qemu_e1000e).run(trace);
    EXPECT_EQ(r.mismatch, "");
    EXPECT_GT(r.reads, 100U);
    EXPECT_GT(r.writes, 300U);
    EXPECT_GT(r.memory, 100U);
}

// A replay that would let anything pass would show nothing.
TEST(nic_trace, a_replay_notices_every_kind_of_difference) {
    auto left = qemu_e1000e(0x10d3, {2, 0, 0, 0, 0, 0xa}), right = qemu_e1000e(0x10d3, {2, 0, 0, 0, 0, 0xb});
    left->name = "0000:00:04.0", right->name = "0000:00:05.0";
    left->connect(*right);
    nm::recorder record;
    ASSERT_EQ(record_e1000e(nm::sim_bus(*left), nm::sim_bus(*right), record), "");
    const std::string& trace = record.text();
    EXPECT_EQ(nic_replay(qemu_e1000e).run(trace).mismatch, "");

    const auto changed = [&](const std::string& what, std::size_t which, bool leave_out) {
        std::istringstream in(trace);
        std::string out, line;
        bool done = false;
        std::size_t n = 0;
        while (std::getline(in, line)) {
            if (!done && line.rfind(what, 0) == 0 && ++n == which) {
                done = true;
                if (leave_out) continue;
                line.back() = line.back() == '1' ? '2' : '1';
            }
            out += line + '\n';
        }
        EXPECT_TRUE(done) << what;
        return nic_replay(qemu_e1000e).run(out).mismatch;
    };
    EXPECT_NE(changed("r ", 20, false), "");
    EXPECT_NE(changed("d ", 20, false), "");
    EXPECT_NE(changed("d ", 20, true), "");
    EXPECT_NE(changed("w 0 3818", 5, true), "");
}

}  // namespace
