# shellcheck shell=bash disable=SC2154
# Sourced by the scripts beside it: how they read their flags and print help.
# A script names its flags in `flags`, gives each a default in a variable of
# that name, and calls `read_arguments "$@"`; what follows -- is kept for main.

dry_run=false
main_flags=()

fail() {
  echo "error: $1" >&2
  exit 2
}

# The help is the script's own leading comment.
print_help() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

read_arguments() {
  local flag
  while (($#)); do
    case $1 in
      --help | -h) print_help && exit 0 ;;
      --dry_run) dry_run=true ;;
      --) shift && main_flags=("$@") && break ;;
      --*=*)
        flag=${1%%=*} flag=${flag#--}
        [[ " ${flags[*]} " == *" $flag "* ]] || fail "unknown flag --$flag; see --help"
        printf -v "$flag" %s "${1#*=}"
        ;;
      *) fail "unexpected argument $1; see --help" ;;
    esac
    shift
  done
  for flag in "${flags[@]}"; do
    [[ -n ${!flag} ]] || fail "--$flag=... is missing; see --help"
  done
  [[ " ${main_flags[*]-}" == *" --config="* ]] ||
    fail "the flags of msggan_jax.main are missing: give them after --, at least --config=FILE"
}

# Fails unless flags are decimal numbers of at least the first argument.
check_numbers() {
  local least=$1 flag
  shift
  for flag in "$@"; do
    if ! [[ ${!flag} =~ ^(0|[1-9][0-9]{0,8})$ ]] || ((${!flag} < least)); then
      fail "--$flag=${!flag}: give a number from $least"
    fi
  done
}

# Quotes words for any shell, where necessary; bash's %q can write $'...', which
# POSIX sh lacks.
quote() {
  local word escaped="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[a-zA-Z0-9_./:=,@+-]+$ ]]; then
      printf '%s ' "$word"
    else
      printf "'%s' " "${word//"'"/"$escaped"}"
    fi
  done
}

# Runs a command, or prints it as one could type it.
run() {
  if $dry_run; then
    quote "$@" && echo
  else
    "$@"
  fi
}
