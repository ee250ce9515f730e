#!/usr/bin/env bash
# Runs a program as two MPI processes that are joined by a slow link: each process has a network namespace
# of its own, and a shaped pair of virtual Ethernet devices joins the two. README.md beside it says more.
set -euo pipefail

usage() {
    cat >&2 <<'END'
usage: namespaces.sh run PROGRAM [ARGUMENT...]
       namespaces.sh cut SECONDS PROGRAM [ARGUMENT...]

environment: RATE (1gbit) and DELAY (1ms, each way) of the link; CUT (down: the link goes down; drop: it
stays up and loses all packets); LIMIT (90: seconds after the cut until what is left is killed); RETRIES
(6: net.ipv4.tcp_retries2)
END
    exit 2
}

# The process of one rank, kept from the signals that the launcher sends to its group, so that its exit
# code is always recorded. It is killed once the launcher has ended the process that stands for it.
if [[ ${1-} == record ]]; then
    launched=$2 log=$3
    shift 3
    "$@" &
    process=$!
    echo "started $OMPI_COMM_WORLD_RANK" >>"$log.started"
    (while kill -0 "$launched"; do sleep 0.1; done && kill -KILL "$process") 2>/dev/null &
    guard=$!
    code=0
    wait "$process" || code=$?
    echo "$EPOCHREALTIME rank $OMPI_COMM_WORLD_RANK $code" >>"$log"
    kill "$guard" 2>/dev/null || true
    exit "$code"
fi
if [[ ${1-} == rank ]]; then
    setsid --wait "$0" record $$ "${@:2}"
    exit
fi

# What mpirun takes for ssh: `agent HOST COMMAND...`. Open MPI takes hosts of one name for one machine.
if [[ ${1-} == agent ]]; then
    exec ip netns exec "$NAMESPACE" unshare --uts sh -c "echo second >/proc/sys/kernel/hostname; ${*:3}"
fi

mode=${1-}
case $mode in
    run) shift ;;
    cut) seconds=${2-} && shift 2 || usage ;;
    *) usage ;;
esac
(($#)) || usage
rate=${RATE-1gbit} delay=${DELAY-1ms} retries=${RETRIES-6} limit=${LIMIT-90} cut=${CUT-down}

first=dinolab-$$-a second=dinolab-$$-b
export NAMESPACE=$second
self=$(realpath "$0")
scratch=$(mktemp -d)
log=$scratch/log
: | tee "$log" >"$log.started"

clean() {
    for namespace in "$first" "$second"; do
        # shellcheck disable=SC2046
        kill -KILL $(ip netns pids "$namespace" 2>/dev/null) 2>/dev/null || true
        ip netns delete "$namespace" 2>/dev/null || true
    done
    rm -rf "$scratch"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

shape() {
    # tbf needs a burst of more than one packet, which is up to 64 KiB before segmentation.
    if tc -n "$1" qdisc add dev link0 root handle 1: netem delay "$delay" limit 10000 2>/dev/null; then
        tc -n "$1" qdisc add dev link0 parent 1:1 handle 10: tbf rate "$rate" burst 256kb latency 50ms
    else
        tc -n "$1" qdisc add dev link0 root tbf rate "$rate" burst 256kb latency 50ms
        [[ $1 == "$second" ]] || echo "this kernel has no netem (CONFIG_NET_SCH_NETEM): no delay" >&2
    fi
}

ip netns add "$first"
ip netns add "$second"
ip link add link0 netns "$first" type veth peer name link0 netns "$second"
address=1
for namespace in "$first" "$second"; do
    ip -n "$namespace" address add "10.77.0.$address/24" dev link0
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link set link0 up
    ip netns exec "$namespace" sysctl -qw net.ipv4.tcp_retries2="$retries"
    shape "$namespace"
    address=2
done

printf '#!/bin/sh\nexec "%s" agent "$@"\n' "$self" >"$scratch/agent"
chmod +x "$scratch/agent"

mpirun=(mpirun -n 2 --host 10.77.0.1,10.77.0.2 --bind-to none
    --mca plm rsh --mca plm_rsh_agent "$scratch/agent"
    --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include link0 --mca oob_tcp_if_include link0
    --mca mpi_yield_when_idle 1)
((EUID)) || mpirun+=(--allow-run-as-root)
in_first=(ip netns exec "$first" unshare --uts
    sh -c 'echo first >/proc/sys/kernel/hostname; exec "$@"' sh)

if [[ $mode == run ]]; then
    "${in_first[@]}" "${mpirun[@]}" "$@"
    exit
fi

"${in_first[@]}" "${mpirun[@]}" "$self" rank "$log" "$@" &
launcher=$!
while (($(wc -l <"$log.started") < 2)) && kill -0 "$launcher" 2>/dev/null; do sleep 0.1; done
sleep "$seconds"
if ! kill -0 "$launcher" 2>/dev/null; then
    echo "the run ended before the cut" >&2
    exit 1
fi
begin=$EPOCHREALTIME
case $cut in
    down) ip -n "$first" link set link0 down ;;
    drop)
        # No packet fits into the bucket.
        for namespace in "$first" "$second"; do
            tc -n "$namespace" qdisc replace dev link0 root tbf rate 1kbit burst 10 latency 1ms
        done
        ;;
    *) usage ;;
esac
echo "the link was cut ($cut)"

after() { awk -v now="$1" -v begin="$begin" 'BEGIN { printf "%.1f s", now - begin }'; }
(sleep "$limit"; kill -KILL "$launcher") 2>/dev/null &
killer=$!
code=0
wait "$launcher" 2>/dev/null || code=$?
echo "mpirun ended after $(after "$EPOCHREALTIME") with code $code"
# Ranks and the daemon of Open MPI in the second namespace may outlive mpirun.
left() { ip netns pids "$first" && ip netns pids "$second"; }
while [[ -n $(left) ]] && kill -0 "$killer" 2>/dev/null; do sleep 0.1; done
end=$EPOCHREALTIME
kill "$killer" 2>/dev/null || true

while read -r time _ rank rank_code; do
    echo "rank $rank ended after $(after "$time") with code $rank_code"
done < <(sort "$log")
if [[ -z $(left) ]]; then
    echo "nothing was left after $(after "$end")"
else
    echo "left after $(after "$end"):" $(ps -o comm= -p "$(left | paste -sd,)")
fi
