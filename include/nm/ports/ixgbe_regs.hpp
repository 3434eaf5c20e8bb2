// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Registers of the 82599 (and X520, X540), in the order of the 82599 datasheet's section 8.2.3.

#include "nm/ports/bar.hpp"

namespace nm {

struct ixgbe_regs {
    using enum reg_mode;

    // 8.2.3.1 General control
    static constexpr reg<rw> ctrl{0x00000};
    static constexpr reg<ro> status{0x00008};
    static constexpr reg<rw> ctrl_ext{0x00018};
    // 8.2.3.2 EEPROM and flash
    static constexpr reg<rw> eec{0x10010};
    // 8.2.3.3 Flow control
    static constexpr reg<rw> fccfg{0x03d00};
    static constexpr reg<rw> mflcn{0x04294};
    // 8.2.3.5 Interrupts; the _ex ones have a bit for each of 64 vectors
    static constexpr reg<rc> eicr{0x00800};
    static constexpr reg<rw> eiac{0x00810};
    static constexpr reg<rw> eims{0x00880};  // ones set
    static constexpr reg<wo> eimc{0x00888};  // ones clear
    static constexpr reg<rw> eiam{0x00890};
    static constexpr reg_array<rw> eims_ex{0x00aa0, 4};
    static constexpr reg_array<wo> eimc_ex{0x00ab0, 4};
    static constexpr reg_array<rw> eiam_ex{0x00ad0, 4};
    [[nodiscard]] static constexpr reg<rw> eitr(unsigned vector) noexcept {
        return vector < 24 ? reg<rw>{0x00820 + 4 * vector} : reg<rw>{0x12300 + 4 * (vector - 24)};
    }
    static constexpr reg_array<rw> ivar{0x00900, 4};  // of two queues each: rx, tx, rx, tx
    static constexpr reg<rw> ivar_misc{0x00a00};
    static constexpr reg<rw> gpie{0x00898};
    // 8.2.3.7 Receive filters
    static constexpr reg<rw> fctrl{0x05080};
    static constexpr reg<rw> vlnctrl{0x05088};
    static constexpr reg<rw> mcstctrl{0x05090};
    static constexpr reg<rw> rxcsum{0x05000};
    static constexpr reg_array<rw> mta{0x05200, 4};  // 128
    static constexpr reg_array<rw> ral{0x0a200, 8};  // 128
    static constexpr reg_array<rw> rah{0x0a204, 8};
    static constexpr reg<rw> mrqc{0x0ec80};
    static constexpr reg_array<rw> reta{0x0eb00, 4};   // 32, of four entries each
    static constexpr reg_array<rw> rssrk{0x0eb80, 4};  // 10
    // 8.2.3.8 Receive DMA, queues 0 to 63
    static constexpr reg_array<rw> rdbal{0x01000, 0x40};
    static constexpr reg_array<rw> rdbah{0x01004, 0x40};
    static constexpr reg_array<rw> rdlen{0x01008, 0x40};
    static constexpr reg_array<rw> dca_rxctrl{0x0100c, 0x40};
    static constexpr reg_array<rw> rdh{0x01010, 0x40};
    static constexpr reg_array<rw> srrctl{0x01014, 0x40};
    static constexpr reg_array<rw> rdt{0x01018, 0x40};
    static constexpr reg_array<rw> rxdctl{0x01028, 0x40};
    static constexpr reg_array<rw> rscctl{0x0102c, 0x40};
    static constexpr reg<rw> rdrxctl{0x02f00};
    static constexpr reg<rw> rxctrl{0x03000};
    static constexpr reg_array<rw> rxpbsize{0x03c00, 4};  // 8
    // 8.2.3.9 Transmit, queues 0 to 127
    static constexpr reg<rw> dmatxctl{0x04a80};
    static constexpr reg_array<rw> tdbal{0x06000, 0x40};
    static constexpr reg_array<rw> tdbah{0x06004, 0x40};
    static constexpr reg_array<rw> tdlen{0x06008, 0x40};
    static constexpr reg_array<rw> tdh{0x06010, 0x40};
    static constexpr reg_array<rw> tdt{0x06018, 0x40};
    static constexpr reg_array<rw> txdctl{0x06028, 0x40};
    static constexpr reg<rw> dtxmxszrq{0x08100};
    static constexpr reg<rw> mtqc{0x08120};
    static constexpr reg<rw> rttdcs{0x04900};
    static constexpr reg_array<rw> txpbthresh{0x04950, 4};  // 8
    static constexpr reg_array<rw> txpbsize{0x0cc00, 4};    // 8
    // 8.2.3.12 Security: nothing goes past these while the receiver is changed
    static constexpr reg<rw> secrxctrl{0x08d00};
    static constexpr reg<ro> secrxstat{0x08d04};
    // 8.2.3.22 MAC
    static constexpr reg<rw> hlreg0{0x04240};
    static constexpr reg<rw> maxfrs{0x04268};
    static constexpr reg<rw> autoc{0x042a0};
    static constexpr reg<ro> links{0x042a4};
    // 8.2.3.23 Statistics
    static constexpr reg<rc> crcerrs{0x04000};
    static constexpr reg<rc> illerrc{0x04004};
    static constexpr reg<rc> errbc{0x04008};
    static constexpr reg_array<rc> mpc{0x03fa0, 4};  // 8
    static constexpr reg<rc> rlec{0x04040};
    static constexpr reg<rc> gprc{0x04074};
    static constexpr reg<rc> gptc{0x04080};
    static constexpr reg<rc> gorcl{0x04088};  // 36 bits; reading the high half clears both
    static constexpr reg<rc> gorch{0x0408c};
    static constexpr reg<rc> gotcl{0x04090};
    static constexpr reg<rc> gotch{0x04094};
    static constexpr reg_array<rc> qprdc{0x01430, 0x40};  // 16
    static constexpr std::uint32_t last_statistic = 0x040f4;
};

struct ixgbe_bits {
    static constexpr std::uint32_t ctrl_master_disable = 1U << 2;
    static constexpr std::uint32_t ctrl_lrst = 1U << 3;
    static constexpr std::uint32_t ctrl_rst = 1U << 26;
    static constexpr std::uint32_t status_master = 1U << 19;
    static constexpr std::uint32_t ctrl_ext_ns_dis = 1U << 16;
    static constexpr std::uint32_t ctrl_ext_drv_load = 1U << 28;
    static constexpr std::uint32_t eec_auto_rd = 1U << 9;
    static constexpr std::uint32_t irq_lsc = 1U << 20;
    static constexpr std::uint32_t ivar_valid = 1U << 7;
    static constexpr std::uint32_t gpie_msix = 1U << 4;
    static constexpr std::uint32_t gpie_ocd = 1U << 5;  // reading EICR clears no queue's cause
    static constexpr std::uint32_t gpie_eiame = 1U << 30;
    static constexpr std::uint32_t gpie_pba = 1U << 31;
    static constexpr std::uint32_t eitr_interval = 0xff8;  // in units of 2 us, from bit 3 on
    static constexpr std::uint32_t fctrl_mpe = 1U << 8;
    static constexpr std::uint32_t fctrl_upe = 1U << 9;
    static constexpr std::uint32_t fctrl_bam = 1U << 10;
    static constexpr std::uint32_t rxcsum_pcsd = 1U << 13;
    static constexpr std::uint32_t mrqc_rss = 1;
    static constexpr std::uint32_t mrqc_fields = 0xffU << 16 & ~(3U << 18);  // TCP, UDP and plain, of IPv4 and IPv6
    static constexpr std::uint32_t srrctl_header = 4U << 8;                  // 256 bytes, of no use without header split
    static constexpr std::uint32_t srrctl_drop = 1U << 28;
    static constexpr std::uint32_t dca_rxctrl_reserved = 1U << 12;
    static constexpr std::uint32_t queue_enable = 1U << 25;  // of RXDCTL and TXDCTL
    static constexpr std::uint32_t rxctrl_rxen = 1;
    static constexpr std::uint32_t rdrxctl_crcstrip = 1U << 1;
    static constexpr std::uint32_t rdrxctl_dmaidone = 1U << 3;
    static constexpr std::uint32_t rdrxctl_rscfrstsize = 0x1fU << 17;
    static constexpr std::uint32_t rdrxctl_ones = 3U << 25;
    static constexpr std::uint32_t dmatxctl_te = 1;
    static constexpr std::uint32_t txdctl_thresholds = 32 | 1U << 8;  // prefetch; write back at once
    static constexpr std::uint32_t rttdcs_arbdis = 1U << 6;
    static constexpr std::uint32_t secrxctrl_rx_dis = 1U << 1;
    static constexpr std::uint32_t secrxstat_ready = 1;
    static constexpr std::uint32_t hlreg0_txcrcen = 1U << 0;
    static constexpr std::uint32_t hlreg0_rxcrcstrp = 1U << 1;
    static constexpr std::uint32_t hlreg0_jumboen = 1U << 2;
    static constexpr std::uint32_t hlreg0_txpaden = 1U << 10;
    static constexpr std::uint32_t autoc_restart = 1U << 12;
    static constexpr std::uint32_t links_up = 1U << 30;
    static constexpr std::uint32_t links_speed = 28;  // shift
};

}  // namespace nm
