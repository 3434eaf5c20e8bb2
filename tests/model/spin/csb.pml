/* SPDX-License-Identifier: BSD-2-Clause */
/* The communication status block (include/nm/ptnet/csb.hpp) as a protocol, for SPIN: who fills a ring and who empties it
 * publish indexes, sleep when there is nothing to do, and ring for each other. It is the same in both directions: of a tx
 * ring the user fills and the server empties, of an rx ring the other way round.
 *
 * Memory is x86's: each side's stores wait in a buffer, in order, and a full fence waits until they have gone. What weaker
 * processors may do besides is tried by relacy/csb.cpp, on the code itself.
 *
 * Either side may stop for good at any time after it has published. Then, when nothing can move any more:
 *   nobody sleeps who has something to do.
 * And always:
 *   the emptier takes each slot once, in order, whole, and the filler never writes to one that was not given back;
 *   an index is never seen to go back or too far, and cur is never seen behind its head;
 *   who sleeps is rung for at most once per sleep.
 *
 * spin_test.py runs it as it is, and with each of these, of which every one must be found out:
 *   NO_FENCE_KICK     no fence between publishing and looking whether the other sleeps
 *   NO_FENCE_ARM      none between arming and looking again
 *   NO_SECOND_LOOK    who armed sleeps without looking again
 *   NO_BELL           a flag instead of a number: who is awake is rung for again and again
 *   HEAD_FIRST        head before cur
 *   NO_ROOM_KEPT      the filler does not look what has been given back
 * and with MEMBARRIER, the other protocol (sleep_word, link.hpp): no fence for who publishes, but the sleeper's barrier
 * makes everybody's stores go, and a compare-and-swap instead of numbers. There, too, NO_FENCE_ARM and NO_SECOND_LOOK, and
 *   PRIVATE_BARRIER   the sleeper's barrier is for its own stores only
 */
#define N 3       /* slots: two may be under way */
#define FRAMES 2  /* frames are numbered modulo this: of three slots, each has the other number than the last time */

#define WISHES 4  /* so many are known at a time */

#define next(i) (((i) + 1) % N)
#define prev(i) (((i) + N - 1) % N)
#define distance(a, b) (((b) + N - (a)) % N)

/* What lies in memory: the filler's words first. */
#define HEAD 0
#define CUR 1
#define FILLER_WISHES 2
#define TAIL 3
#define EMPTIER_WISHES 4
#define SLOT 5
byte memory[8];

chan filler_stores = [5] of { byte, byte };
chan emptier_stores = [4] of { byte, byte };

bool filler_rung, emptier_rung;    /* eventfds */
bool filler_asleep, emptier_asleep;
byte filler_bell, emptier_bell;    /* the wish that the other side has been rung for: csb_bell's rung_ */
byte filler_looks, emptier_looks;  /* the wish that a side has just read, and has not thought about yet */
byte filler_wish, emptier_wish;
bool had[16];                      /* which wishes have been rung for, since they were made; the filler's, then the emptier's */

/* Ghosts: how far each has got, and what is under way. */
byte filled, emptied, under_way;

#ifdef NO_FENCE_KICK
#define kick_fence(stores) skip
#elif defined(MEMBARRIER)
#define kick_fence(stores) skip
#else
#define kick_fence(stores) empty(stores)
#endif

#ifdef NO_FENCE_ARM
#define arm_fence(stores) skip
#elif defined(MEMBARRIER) && !defined(PRIVATE_BARRIER)
#define arm_fence(stores) (empty(filler_stores) && empty(emptier_stores))
#else
#define arm_fence(stores) empty(stores)
#endif

/* Publishing is followed by this: look at the other's wish, and ring. */
#ifdef MEMBARRIER
#define asleep_word 1
#define woken_word 2
inline kick(stores, looks, wish_at, bell, rung, ghost) {
    atomic { kick_fence(stores); looks = memory[wish_at] };
    if
    :: looks == asleep_word ->
        atomic {
            empty(stores);  /* a locked instruction */
            if
            :: memory[wish_at] == asleep_word -> assert(!had[ghost]); had[ghost] = true; memory[wish_at] = woken_word; looks = woken_word
            :: else -> looks = 0
            fi
        };
        if
        :: looks == woken_word -> rung = true
        :: else
        fi
    :: else
    fi;
    looks = 0
}
inline make_wish(stores, wish, wish_at, other_bell, other_looks, ghost) {
    stores!wish_at,asleep_word
}
#else
inline kick(stores, looks, wish_at, bell, rung, ghost) {
    atomic { kick_fence(stores); looks = memory[wish_at] };
    if
#ifdef NO_BELL
    :: looks != 0 ->
#else
    :: looks != 0 && looks != bell ->
#endif
        atomic { bell = looks; assert(!had[ghost + looks]); had[ghost + looks] = true; rung = true }
    :: else
    fi;
    looks = 0
}
/* Whether anybody may still come across wish w. */
#define known(w) (w == other_looks || w == memory[wish_at] || stores??[eval(wish_at),eval(w)])
/* A number that nobody knows: what a counter of 32 bits gives. What nobody can meet again is forgotten by the model. */
inline make_wish(stores, wish, wish_at, other_bell, other_looks, ghost) {
    atomic {
        if
        :: other_bell != 0 && !known(other_bell) -> other_bell = 0
        :: else
        fi;
        wish = WISHES;
        do
        :: wish != 0 ->
           if
           :: !known(wish) -> had[ghost + wish] = false
           :: else
           fi;
           wish--
        :: else -> break
        od;
        do
        :: wish++;
           if
           :: wish != other_bell && !known(wish) -> break
           :: else
           fi
        od;
        assert(wish <= WISHES);
        stores!wish_at,wish;
        wish = 0
    }
}
#endif

proctype filler() {
    byte head = 0, tail = prev(0), seen;
    do
    :: /* Room? */
       atomic {
           seen = memory[TAIL];
           assert(distance(tail, seen) <= distance(tail, prev(head)));  /* nothing given back that was not under way */
           tail = seen;
           seen = 0
       };
#ifndef NO_ROOM_KEPT
       if
       :: head == tail ->
           make_wish(filler_stores, filler_wish, FILLER_WISHES, emptier_bell, emptier_looks, 0);
           arm_fence(filler_stores);
#ifndef NO_SECOND_LOOK
           if
           :: memory[TAIL] != tail -> skip
           :: else ->
#endif
               filler_asleep = true;
               end: atomic { filler_rung; filler_rung = false; filler_asleep = false }
#ifndef NO_SECOND_LOOK
           fi
#endif
           ;
           filler_stores!FILLER_WISHES,0
       :: else ->
#endif
           /* One frame, or two at once. */
           do
           :: atomic { filler_stores!SLOT + head,filled; filled = (filled + 1) % FRAMES; under_way++; assert(under_way < N); head = next(head) };
              if
              :: head != tail -> skip
              :: break
              fi
           od;
#ifdef HEAD_FIRST
           atomic { filler_stores!HEAD,head; filler_stores!CUR,head };
#else
           atomic { filler_stores!CUR,head; filler_stores!HEAD,head };
#endif
           kick(filler_stores, filler_looks, EMPTIER_WISHES, filler_bell, emptier_rung, 8)
#ifndef NO_ROOM_KEPT
       fi
#endif
    :: break
    od
}

proctype emptier() {
    byte hwcur = 0, head = 0, seen;
    do
    :: seen = memory[HEAD];
       atomic {
           assert(distance(hwcur, memory[CUR]) >= distance(hwcur, seen));
           head = seen;
           seen = 0
       };
       if
       :: head == hwcur ->
           make_wish(emptier_stores, emptier_wish, EMPTIER_WISHES, filler_bell, filler_looks, 8);
           arm_fence(emptier_stores);
#ifndef NO_SECOND_LOOK
           if
           :: memory[HEAD] != hwcur -> skip
           :: else ->
#endif
               emptier_asleep = true;
               end: atomic { emptier_rung; emptier_rung = false; emptier_asleep = false }
#ifndef NO_SECOND_LOOK
           fi
#endif
           ;
           emptier_stores!EMPTIER_WISHES,0
       :: else ->
           do
           :: atomic { assert(memory[SLOT + hwcur] == emptied); emptied = (emptied + 1) % FRAMES; under_way--; hwcur = next(hwcur) };
              if
              :: hwcur != head -> skip
              :: break
              fi
           od;
           emptier_stores!TAIL,prev(hwcur);
           kick(emptier_stores, emptier_looks, FILLER_WISHES, emptier_bell, filler_rung, 0)
       fi
    :: break
    od
}

/* Stores go when they go. */
proctype gone(chan stores) {
    byte at, what;
    end: do
    :: atomic {
           stores?at,what;
           memory[at] = what;
#ifdef MEMBARRIER
           if
           :: at == FILLER_WISHES && what == asleep_word -> had[0] = false
           :: at == EMPTIER_WISHES && what == asleep_word -> had[8] = false
           :: else
           fi;
#endif
           at = 0;
           what = 0
       }
    od
}

init {
    atomic {
        memory[TAIL] = prev(0);
        run filler(); run emptier(); run gone(filler_stores); run gone(emptier_stores)
    };
    /* Nothing can move: with what is published, is there anybody who should not be asleep? */
    end: timeout;
    assert(!emptier_asleep || under_way == 0);
    assert(!filler_asleep || under_way == N - 1)
}
