// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Registers of the 8254x and the 82574, in the order of the 82574 datasheet's section 10.2 (8254x manual, section 13).

#include "nm/ports/bar.hpp"

namespace nm {

struct e1000_regs {
    using enum reg_mode;

    // 10.2.2 General
    static constexpr reg<rw> ctrl{0x0000};
    static constexpr reg<ro> status{0x0008};
    static constexpr reg<rw> ctrl_ext{0x0018};
    static constexpr reg<rw> fcal{0x0028};
    static constexpr reg<rw> fcah{0x002c};
    static constexpr reg<rw> fct{0x0030};
    static constexpr reg<rw> fcttv{0x0170};
    // 10.2.4 Interrupts; from eiac on the 82574 only
    static constexpr reg<rw1c> icr{0x00c0};  // unless MSI-X is on, reading clears it too
    static constexpr reg<rw> itr{0x00c4};  // units of 256 ns
    static constexpr reg<wo> ics{0x00c8};
    static constexpr reg<rw> ims{0x00d0};  // ones set
    static constexpr reg<wo> imc{0x00d8};  // ones clear
    static constexpr reg<rw> eiac{0x00dc};
    static constexpr reg<rw> ivar{0x00e4};
    static constexpr reg_array<rw> eitr{0x00e8, 4};
    // 10.2.5 Receive
    static constexpr reg<rw> rctl{0x0100};
    static constexpr reg<rw> rdbal{0x2800};
    static constexpr reg<rw> rdbah{0x2804};
    static constexpr reg<rw> rdlen{0x2808};
    static constexpr reg<rw> rdh{0x2810};
    static constexpr reg<rw> rdt{0x2818};
    static constexpr reg<rw> rdtr{0x2820};
    static constexpr reg<rw> rxdctl{0x2828};
    static constexpr reg<rw> radv{0x282c};
    static constexpr reg<rw> rxcsum{0x5000};
    static constexpr reg<rw> rfctl{0x5008};
    static constexpr reg_array<rw> mta{0x5200, 4};  // 128
    static constexpr reg_array<rw> ral{0x5400, 8};
    static constexpr reg_array<rw> rah{0x5404, 8};
    static constexpr reg<rw> mrqc{0x5818};
    // 10.2.6 Transmit
    static constexpr reg<rw> tctl{0x0400};
    static constexpr reg<rw> tipg{0x0410};
    static constexpr reg<rw> tdbal{0x3800};
    static constexpr reg<rw> tdbah{0x3804};
    static constexpr reg<rw> tdlen{0x3808};
    static constexpr reg<rw> tdh{0x3810};
    static constexpr reg<rw> tdt{0x3818};
    static constexpr reg<rw> tidv{0x3820};
    static constexpr reg<rw> txdctl{0x3828};
    // 10.2.7 Statistics
    static constexpr reg<rc> crcerrs{0x4000};
    static constexpr reg<rc> algnerrc{0x4004};
    static constexpr reg<rc> rxerrc{0x400c};
    static constexpr reg<rc> mpc{0x4010};
    static constexpr reg<rc> rlec{0x4040};
    static constexpr reg<rc> gprc{0x4074};
    static constexpr reg<rc> gorcl{0x4088};  // reading the high half clears both
    static constexpr reg<rc> gorch{0x408c};
    static constexpr reg<rc> totl{0x40c8};
    static constexpr reg<rc> toth{0x40cc};
    static constexpr reg<rc> tpt{0x40d4};
    static constexpr std::uint32_t last_statistic = 0x4124;
};

struct e1000_bits {
    static constexpr std::uint32_t ctrl_fd = 1U << 0;
    static constexpr std::uint32_t ctrl_master_disable = 1U << 2;
    static constexpr std::uint32_t ctrl_asde = 1U << 5;
    static constexpr std::uint32_t ctrl_slu = 1U << 6;
    static constexpr std::uint32_t ctrl_rst = 1U << 26;
    static constexpr std::uint32_t ctrl_flow_control = 3U << 27;
    static constexpr std::uint32_t ctrl_vme = 1U << 30;
    static constexpr std::uint32_t ctrl_phy_rst = 1U << 31;
    static constexpr std::uint32_t status_lu = 1U << 1;
    static constexpr std::uint32_t status_speed = 6;  // shift
    static constexpr std::uint32_t status_master = 1U << 19;
    static constexpr std::uint32_t ctrl_ext_pba = 1U << 31;  // MSI-X
    static constexpr std::uint32_t irq_txdw = 1U << 0;
    static constexpr std::uint32_t irq_lsc = 1U << 2;
    static constexpr std::uint32_t irq_rxdmt0 = 1U << 4;
    static constexpr std::uint32_t irq_rxo = 1U << 6;
    static constexpr std::uint32_t irq_rxt0 = 1U << 7;
    static constexpr std::uint32_t irq_rxq0 = 1U << 20;
    static constexpr std::uint32_t irq_txq0 = 1U << 22;
    static constexpr std::uint32_t irq_other = 1U << 24;
    static constexpr std::uint32_t rctl_en = 1U << 1;
    static constexpr std::uint32_t rctl_upe = 1U << 3;
    static constexpr std::uint32_t rctl_mpe = 1U << 4;
    static constexpr std::uint32_t rctl_lpe = 1U << 5;
    static constexpr std::uint32_t rctl_bam = 1U << 15;
    static constexpr std::uint32_t rctl_bsize = 16;  // shift
    static constexpr std::uint32_t rctl_bsex = 1U << 25;
    static constexpr std::uint32_t rctl_secrc = 1U << 26;
    static constexpr std::uint32_t tctl_en = 1U << 1;
    static constexpr std::uint32_t tctl_psp = 1U << 3;
    static constexpr std::uint32_t tctl_ct = 0x0fU << 4;
    static constexpr std::uint32_t tctl_cold = 0x40U << 12;
    static constexpr std::uint32_t tctl_mulr = 1U << 28;
    static constexpr std::uint32_t xdctl_gran = 1U << 24;
    static constexpr std::uint32_t xdctl_wthresh_1 = 1U << 16;
};

}  // namespace nm
