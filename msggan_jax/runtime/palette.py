"""Colors, markers and dashes of plots, for color-blind readers, too."""

# Okabe and Ito's colors, then two more.
COLORS = (
  "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #000000 #999933 #882255"
).split()
MARKERS = "os^vD"
