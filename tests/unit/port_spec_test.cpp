// SPDX-License-Identifier: BSD-2-Clause
#include "nm/port_spec.hpp"

#include <gtest/gtest.h>

#include <random>

#include "nm/port_options.hpp"
#include "nm/ports/null.hpp"
#include "support/pipes.hpp"

namespace {

using nm::parse_port;
using nm::port_kind;
using nm::ring_mode;

nm::port_spec good(const char* name) {
    auto r = parse_port(name);
    EXPECT_TRUE(r) << name << ": " << (r ? "" : r.error().text);
    return r ? *r : nm::port_spec{};
}

TEST(port_spec, kernel_interfaces) {
    EXPECT_EQ(good("netmap:eth0").name, "eth0");
    EXPECT_EQ(good("netmap:eth0").kind, port_kind::netdev);
    EXPECT_EQ(good("netmap:eth0").mode, ring_mode::all);
    EXPECT_EQ(good("netmap:eth0^").mode, ring_mode::host);
    EXPECT_EQ(good("netmap:eth0^3").mode, ring_mode::one_host);
    EXPECT_EQ(good("netmap:eth0^3").ring, 3U);
    EXPECT_EQ(good("netmap:eth0*").mode, ring_mode::all_and_host);
    EXPECT_EQ(good("netmap:eth0-2").mode, ring_mode::one);
    EXPECT_EQ(good("netmap:eth0-2").ring, 2U);
    EXPECT_EQ(good("netmap:br-lan").name, "br-lan");
    EXPECT_EQ(good("netmap:br-lan-2").name, "br-lan");
    EXPECT_EQ(good("netmap:br-lan-2").ring, 2U);
    EXPECT_EQ(good("netmap:eth0.100").name, "eth0.100");
}

TEST(port_spec, pipes_switches_devices) {
    const auto master = good("netmap:eth0{ab_1");
    EXPECT_EQ(master.kind, port_kind::pipe);
    EXPECT_EQ(master.pipe_id, "ab_1");
    EXPECT_FALSE(master.pipe_slave);
    EXPECT_TRUE(good("netmap:eth0}ab_1").pipe_slave);
    EXPECT_EQ(good("netmap:eth0}ab_1").identity(), good("netmap:eth0{ab_1").identity());
    EXPECT_EQ(good("vale1:a").kind, port_kind::vale);
    EXPECT_EQ(good("vale1:a").name, "vale1:a");
    EXPECT_EQ(good("vale2:x{3").kind, port_kind::pipe);
    EXPECT_EQ(good("vale2:x{3").name, "vale2:x");
    EXPECT_EQ(good("netmap:0000:03:00.0").kind, port_kind::pci);
    EXPECT_EQ(good("netmap:0000:03:00.0").name, "0000:03:00.0");
    EXPECT_EQ(good("netmap:03:00.0").name, "0000:03:00.0");
    EXPECT_EQ(good("netmap:03:00.0@conf:mtu=9000").mtu, 9000U);
    EXPECT_EQ(good("netmap:0000:AF:1C.7^").name, "0000:af:1c.7");
    EXPECT_EQ(good("netmap:03:00.1-1").ring, 1U);
    EXPECT_EQ(good("ptnet:0000:00:04.0").kind, port_kind::ptnet);
    EXPECT_EQ(good("ptnet:0000:00:04.0").name, "0000:00:04.0");
    EXPECT_EQ(good("ptnet:00:04.0:0-1").name, "0000:00:04.0");
    EXPECT_EQ(good("ptnet:00:04.0:0-1").ring, 1U);
    EXPECT_EQ(good("ptnet:00:04.0:03").name, "0000:00:04.0:3");
    EXPECT_EQ(good("ptnet:0000:00:04.0:15").device_port, 15U);
    EXPECT_EQ(good("ptnet:0000:00:04.0:15-2").ring, 2U);
    EXPECT_EQ(good("null:").kind, port_kind::null);
    EXPECT_EQ(good("null").kind, port_kind::null);
    EXPECT_EQ(good("null:x").name, "x");
}

TEST(port_spec, flags_and_options) {
    const auto s = good("netmap:eth0-1/xzrt@7@conf:rings=2,slots=512,tx-slots=256,mode=af_xdp,mit=50");
    EXPECT_TRUE(s.exclusive && s.zero_copy_monitor && s.monitor_rx && s.monitor_tx && s.monitor());
    EXPECT_EQ(s.mem_id, 7U);
    EXPECT_EQ(s.tx_rings, 2U);
    EXPECT_EQ(s.rx_slots, 512U);
    EXPECT_EQ(s.tx_slots, 256U);
    EXPECT_EQ(s.conf_mode, "af_xdp");
    EXPECT_EQ(s.mitigation_us, 50U);
    EXPECT_TRUE(good("netmap:eth0/R").rx_only);
    EXPECT_TRUE(good("netmap:eth0/T").tx_only);
    EXPECT_EQ(good("netmap:eth0@3@3").mem_id, 3U);
    EXPECT_EQ(good("netmap:eth0@share=netmap:eth1").share, "netmap:eth1");
}

TEST(port_spec, each_wrong_name_gets_its_sentence) {
    const struct {
        const char* name;
        const char* says;
    } table[] = {
        {"", "is empty"},
        {"ens192", "did you mean \"netmap:ens192\"?"},
        {"eth0-1", "did you mean"},
        {"foo:bar", "unknown prefix"},
        {"0000:03:00.0", "did you mean \"netmap:0000:03:00.0\""},
        {"netmap:0000:03:00", "is no PCI address"},
        {"netmap:eth0@conf:mtu=9000", "sets an MTU, which is for PCI devices"},
        {"netmap:", "does not say which port"},
        {"ptnet:0000:00:04.0:x", "no number of a port"},
        {"ptnet:0000:00:04.0:", "no number of a port"},
        {"ptnet:0000:00:04.0:99999999999", "no number of a port"},
        {"netmap:0000:03:00.0:1", "is no PCI address"},
        {"netmap:e&h0", "'&'"},
        {"netmap:averyveryverylongname", "more than 15"},
        {"netmap:vale0:1", "without \"netmap:\""},
        {"vale0", "valeN:PORT"},
        {"vale0:", "which port"},
        {"vale0:a b", "letters"},
        {"vale0:averyveryverylongname", "more than 15"},
        {"netmap:eth0{", "which pipe"},
        {"netmap:eth0{a.b", "means nothing"},
        {"netmap:eth0-99999999999", "ring number"},
        {"netmap:eth0/q", "unknown flag 'q'"},
        {"netmap:eth0/RT", "rx rings only and"},
        {"netmap:eth0@0", "1 to 65535"},
        {"netmap:eth0@1@2", "two memory ids"},
        {"netmap:eth0@conf:slots", "no number"},
        {"netmap:eth0@conf:slots=x", "no number"},
        {"netmap:eth0@conf:slots=99999999999999", "no number"},
        {"netmap:eth0@conf:slots=0", "out of range"},
        {"netmap:eth0@conf:bogus=1", "unknown @conf: key"},
        {"netmap:eth0@extmem:file=x", "does not have"},
        {"netmap:eth0@bogus", "unknown option"},
        {"netmap:eth0@share=", "with whom"},
        {"netmap:eth0*x", "means nothing"},
    };
    for (const auto& t : table) {
        const auto r = parse_port(t.name);
        ASSERT_FALSE(r) << t.name;
        EXPECT_EQ(r.error().code.value(), EINVAL);
        EXPECT_NE(r.error().text.find(t.says), std::string::npos) << t.name << " -> " << r.error().text;
    }
    EXPECT_FALSE(parse_port(std::string(10'000, 'a')));
}

// Any bytes: an answer, never a crash; and what is accepted has a name.
TEST(port_spec, a_pipe_has_a_parent) {
    for (const char* name : {"null:{1", "null:}ab", "netmap:{1"}) EXPECT_FALSE(parse_port(name)) << name;
    EXPECT_EQ(good("null:x{1").kind, port_kind::pipe);
}

// A delay is kept in nanoseconds, in 32 bits.
TEST(port_spec, mitigation_that_would_wrap_is_refused) {
    EXPECT_EQ(*good("netmap:eth0@conf:mit=1000000").mitigation_us, 1'000'000U);
    EXPECT_EQ(*good("netmap:eth0@conf:mit=0").mitigation_us, 0U);
    for (const char* name : {"netmap:eth0@conf:mit=1000001", "netmap:eth0@conf:mit=4294968"}) EXPECT_FALSE(parse_port(name)) << name;
}

TEST(port_spec, survives_any_text) {
    std::mt19937 random(1);
    const std::string alphabet = "netmap:vale0:eth1{}^*-/@conf:slots=,rt9.\x00\xff& ";
    for (int i = 0; i < 100'000; ++i) {
        std::string s = i % 3 == 0 ? "" : i % 3 == 1 ? "netmap:" : "vale1:";
        for (auto n = random() % 30; n != 0; --n) s += alphabet[random() % alphabet.size()];
        const auto r = parse_port(s);
        if (r && r->kind != port_kind::null) {
            EXPECT_FALSE(r->name.empty()) << s;
        }
    }
}

TEST(port, a_list_opens_what_the_name_says) {
    nm::context ctx;
    using ports = nm::port_list<nm::pipe, nm::null_port>;
    auto p = nm::open<ports>(ctx, "netmap:p{1");
    auto n = nm::open<ports>(ctx, "null:x@conf:slots=64");
    EXPECT_TRUE(std::holds_alternative<nm::pipe>(p));
    ASSERT_TRUE(std::holds_alternative<nm::null_port>(n));
    EXPECT_EQ(std::get<nm::null_port>(n).tx().num_slots(), 64U);
    const auto r = nm::try_open<ports>(ctx, "vale0:a");
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text.find("it knows pipes"), std::string::npos) << r.error().text;
    EXPECT_THROW((void)nm::open<ports>(ctx, "eth0"), std::system_error);
    EXPECT_EQ(nm::query<ports>(ctx, "null:x")->tx_slots, 64U);
    EXPECT_EQ(nm::query<ports>(ctx, "null:y")->tx_slots, 1024U);
}

TEST(port, null_takes_everything_and_has_nothing) {
    nm::context ctx;
    auto n = nm::open<nm::null_port>(ctx, "null");
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(nm::generate(n, 1000, [](nm::frame& f) noexcept { f.resize(60); }), 1000U);
    EXPECT_EQ(n.tx_stats().frames, 100'000U);
    EXPECT_EQ(nm::drain(n, 10), 0U);
    EXPECT_EQ(nm::wait(n, nm::events::tx), nm::events::tx);
    EXPECT_EQ(nm::wait(n, nm::events::rx, std::chrono::milliseconds(5)), nm::events::none);
}

TEST(port, may_not_have_the_name_of_an_interface) {
    nm::context ctx;
    for (const auto& text : {nm::try_open<nm::null_port>(ctx, "null:lo").error().text, nm::query(ctx, "null:lo").error().text})
        EXPECT_NE(text.find("there is a network interface of that name"), std::string::npos) << text;
}

TEST(port, memory_is_shared_by_id_by_region_and_by_name) {
    nm::context ctx;
    auto a = nm::open<nm::null_port>(ctx, "null:a@1"), b = nm::open<nm::null_port>(ctx, "null:b@1"),
         c = nm::open<nm::null_port>(ctx, "null:c@2"), d = nm::open<nm::null_port>(ctx, "null:d");
    EXPECT_EQ(a.memory(), b.memory());
    EXPECT_NE(a.memory(), c.memory());
    EXPECT_NE(a.memory(), d.memory());
    nm::open_options o;
    o.memory = a.memory();
    EXPECT_EQ(nm::open<nm::null_port>(ctx, "null:e", o).memory(), a.memory());
    const auto r = nm::try_open<nm::null_port>(ctx, "null:f@share=netmap:zz");
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().text.find("not open"), std::string::npos);
}

}  // namespace
