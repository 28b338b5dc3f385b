"""What the lessons' explorers share, to read in this order.

`drawing` (films of plain data, and their pictures), `player` (shows a film), `chart` (plotly, and
a picture), `controls` (an explorer: controls, a readout and what they change), `predict` (a
question before its answer), `exercises` (judged at once), `meter` (exact, and how much faster),
`source` (a function on a slide). `card`, `theme`, `strings` and `stable` (numbers that another
machine prints too) are what these are made of.
"""
