# Of all that pip says while it installs: each package that it downloads, how large it is, and how much they are together.

/^ *Downloading / && !/\.metadata/ {
    sub(/^ *Downloading /, "  ")
    sub(/-(cp|py)[0-9][^ ]*\.whl/, "")
    print
    size = $(NF - 1)
    sub(/\(/, "", size)
    unit = $NF
    total += size * (unit ~ /^GB/ ? 1000 : unit ~ /^MB/ ? 1 : unit ~ /^kB/ ? 0.001 : 0.000001)
}
/^Installing collected packages/ {
    if (total)
        printf "%.0f MB were downloaded. ", total
    print "Installing; this takes a minute or two ..."
}
{ fflush() }
